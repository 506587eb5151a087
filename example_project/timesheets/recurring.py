"""What is done about time entries by the calendar: a summary each Monday, and a look at the other
system."""

from __future__ import annotations

from datetime import timedelta
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
    """Mail each organization the hours of the seven days before, by project; return how many, and
    the minutes."""
    running = current_job(default=None)
    end = ((running and running.due_at) or timezone.now()).date() - timedelta(days=1)
    start = end - timedelta(days=6)
    mails, minutes = [], 0
    for organization in Organization.objects.exclude(email=""):
        entries = TimeEntry.objects.filter(
            project__organization=organization, day__range=(start, end)
        )
        by_project = (
            entries.values_list("project__name")
            .annotate(minutes=Sum("minutes"))
            .order_by("project__name")
        )
        lines = [f"{name}: {spent / 60:.2f} hours" for name, spent in by_project]
        minutes += sum(spent for _, spent in by_project)
        data = {
            "to": organization.email,
            "subject": f"Your week from {start:%d %b %Y}",
            "template": "announcement",
            "data": {"name": organization.name, "text": "\n".join(lines) or "No time was entered."},
        }
        chosen = (
            f"{running.id}:{organization.pk}" if running else None
        )  # a repeated run sends no second mail
        mails.append((email_job.name, data, JobOptions(id=chosen, organization=organization.pk)))
    enqueue_bulk(mails)
    return {"organizations": len(mails), "minutes": minutes}


@job("sync-time-entries", queue=QUEUE, schedule=Cron("*/15 * * * *"))
def sync_time_entries() -> dict[str, Any]:
    """Enqueue an import for each project that takes its entries from the other system
    (``TIME_ENTRIES_URL``)."""
    if not settings.TIME_ENTRIES_URL:
        return {"projects": [], "why": "TIME_ENTRIES_URL is not set"}
    running = current_job(default=None)
    projects = Project.objects.filter(entries__external_id__isnull=False).distinct().order_by("pk")
    imports = [
        (
            import_time_entries.name,
            {"project_id": project.pk, "url": settings.TIME_ENTRIES_URL},
            JobOptions(
                id=f"{running.id}:{project.pk}" if running else None,
                organization=project.organization_id,
            ),
        )
        for project in projects
    ]
    enqueue_bulk(imports)
    return {"projects": [data["project_id"] for _, data, _ in imports]}
