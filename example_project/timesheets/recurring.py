"""Scheduled jobs: the weekly summary, and the sync with the external system."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from example_project.organizations.models import Organization
from wellos_jobs import JobOptions, current_job, enqueue_bulk, job
from wellos_jobs.contrib.emails import email_job
from wellos_jobs.cron import Cron

from .external_import import import_time_entries
from .models import Project, TimeEntry

QUEUE = "scheduled-tasks"


@job("weekly-summary", queue=QUEUE, schedule=Cron("0 9 * * 1"))
def weekly_summary() -> dict[str, int]:
    """Email each organization its hours of the last seven days, by project.

    Returns the numbers of organizations and minutes.
    """
    running = current_job(default=None)
    end = ((running and running.due_at) or timezone.now()).date() - timedelta(days=1)
    start = end - timedelta(days=6)

    mails, minutes = [], 0
    for organization in Organization.objects.exclude(email=""):
        by_project = _minutes_by_project(organization, start, end)
        lines = [f"{name}: {spent / 60:.2f} hours" for name, spent in by_project]
        minutes += sum(spent for _, spent in by_project)

        data = {
            "to": organization.email,
            "subject": f"Your week from {start:%d %b %Y}",
            "template": "announcement",
            "data": {"name": organization.name, "text": "\n".join(lines) or "No time was entered."},
        }
        # With a chosen id, a repeated run sends no second email.
        chosen_id = f"{running.id}:{organization.pk}" if running else None
        options = JobOptions(id=chosen_id, organization=organization.pk)
        mails.append((email_job.name, data, options))

    enqueue_bulk(mails)
    return {"organizations": len(mails), "minutes": minutes}


def _minutes_by_project(
    organization: Organization, start: date, end: date
) -> list[tuple[str, int]]:
    entries = TimeEntry.objects.filter(project__organization=organization, day__range=(start, end))
    by_project = entries.values_list("project__name").annotate(minutes=Sum("minutes"))
    return list(by_project.order_by("project__name"))


@job("sync-time-entries", queue=QUEUE, schedule=Cron("*/15 * * * *"))
def sync_time_entries() -> dict[str, Any]:
    """Enqueue an import for each project that has entries from ``TIME_ENTRIES_URL``."""
    if not settings.TIME_ENTRIES_URL:
        return {"projects": [], "why": "TIME_ENTRIES_URL is not set"}

    running = current_job(default=None)
    projects = Project.objects.filter(entries__external_id__isnull=False).distinct().order_by("pk")
    imports = []
    for project in projects:
        data = {"project_id": project.pk, "url": settings.TIME_ENTRIES_URL}
        options = JobOptions(
            id=f"{running.id}:{project.pk}" if running else None,
            organization=project.organization_id,
        )
        imports.append((import_time_entries.name, data, options))

    enqueue_bulk(imports)
    return {"projects": [data["project_id"] for _, data, _ in imports]}
