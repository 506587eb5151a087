"""Each organization has a schedule for its report, from its first day to its last, in its own time
zone.

These are plain receivers, no triggers (``enqueue_on``): a schedule is a row, written in the
transaction of the organization's own. As a job it would come a moment later, could fail by itself,
and would leave, for that time, an organization without its schedule, or a schedule that runs for an
organization that is gone.
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
    """Give a new organization its schedule; let an old one's take note of another time zone."""
    if raw:  # a fixture brings its own schedules
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
    """Take the schedule of an organization away that is gone."""
    remove_schedule(f"org-report:{instance.pk}")
