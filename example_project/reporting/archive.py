"""The reports of an organization, and its report schedule."""

from __future__ import annotations

from django.db.models import QuerySet

from example_project.organizations.models import Organization
from wellos_jobs import JobState
from wellos_jobs.models import JobRecord, OrganizationReportSchedule

MADE_BY = ("generate-report", "org-report")
"""The names of jobs whose result is a report."""


def reports_of(organization: Organization) -> QuerySet[JobRecord]:
    """Return the completed report jobs of an organization, newest first."""
    jobs = JobRecord.objects.filter(
        organization_id=organization.pk, name__in=MADE_BY, state=JobState.COMPLETED
    )
    return jobs.order_by("-created_at")


def schedule_of(organization: Organization) -> OrganizationReportSchedule | None:
    """Return the report schedule of an organization, or None."""
    return OrganizationReportSchedule.objects.filter(organization_id=organization.pk).first()
