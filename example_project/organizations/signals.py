"""Create, update and remove the report schedule of an organization.

These are signal receivers rather than triggers (``enqueue_on``), because a schedule is a row that
can be written in the same transaction. A job would write it later, or fail to do so.
"""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from wellos_jobs.models import OrganizationReportSchedule
from wellos_jobs.schedules import remove_schedule, schedule_organization_reports, update_schedule

from .models import Organization

FIRST_OF_THE_MONTH = "0 7 1 * *"


@receiver(post_save, sender=Organization, dispatch_uid="organizations.report_schedule")
def schedule_reports(instance: Organization, created: bool, raw: bool, **_: Any) -> None:
    """Create the schedule of a new organization; update it when the time zone may have changed."""
    if raw:  # fixtures contain their own schedules
        return

    if created:
        recipients = [instance.email] if instance.email else []
        schedule_organization_reports(
            instance.pk, FIRST_OF_THE_MONTH, report_type="hours", recipients=recipients
        )
    elif OrganizationReportSchedule.objects.filter(organization_id=instance.pk).exists():
        update_schedule(instance.pk)


@receiver(post_delete, sender=Organization, dispatch_uid="organizations.remove_report_schedule")
def remove_reports(instance: Organization, **_: Any) -> None:
    """Remove the schedule of a deleted organization."""
    remove_schedule(f"org-report:{instance.pk}")
