"""Import of time entries from another system, and the report of hours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from django.db.models import Sum

from wellos_jobs import Discard, exponential, job, report_progress
from wellos_jobs.contrib import orphans, reports

from .csv_import import import_chunk, summarise_import
from .models import Project, TimeEntry
from .recurring import sync_time_entries, weekly_summary

__all__ = [
    "import_chunk",
    "import_time_entries",
    "summarise_import",
    "sync_time_entries",
    "weekly_summary",
]

PAGE_SECONDS = 10.0


@job("import-time-entries", queue="default", max_attempts=5, backoff=exponential(1), timeout=120)
def import_time_entries(project_id: int, url: str) -> dict[str, int]:
    """Import a project's entries, page by page; an entry that is here already is left alone.

    A run that was cut short is simply repeated: the pages it had stored are fetched again and
    change nothing.
    """
    project = Project.objects.filter(pk=project_id).first()
    if project is None:
        raise Discard(f"There is no project {project_id}")
    page, pages, imported = 1, 1, 0
    while page <= pages:
        answer = _fetch(url, page)
        pages = answer["pages"]
        imported += sum(_store(project, entry) for entry in answer["entries"])
        report_progress(100 * page / pages, f"page {page} of {pages}")
        page += 1
    return {"pages": pages, "imported": imported}


def _fetch(url: str, page: int) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise Discard(f"{url!r} is not a web address")
    with urlopen(f"{url}?{urlencode({'page': page})}", timeout=PAGE_SECONDS) as response:
        return json.load(response)


def _store(project: Project, entry: dict[str, Any]) -> bool:
    _, created = TimeEntry.objects.get_or_create(
        project=project,
        external_id=entry["id"],
        defaults={
            "description": entry["description"],
            "day": date.fromisoformat(entry["day"]),
            "minutes": entry["minutes"],
        },
    )
    return created


def fetch_hours(days: reports.DateRange, organization: str = "") -> list[dict[str, Any]]:
    """Return minutes by organization and project, of one organization or of all."""
    entries = TimeEntry.objects.filter(day__range=(days.start, days.end))
    if organization:
        entries = entries.filter(project__organization=organization)
    keys = (
        "project__organization__name",
        "project__organization__currency",
        "project__name",
        "project__customer_name",
        "project__hourly_rate",
    )
    return list(entries.values(*keys).annotate(minutes=Sum("minutes")).order_by(*keys))


def tabulate_hours(rows: Iterable[dict[str, Any]]) -> reports.Content:
    """Return hours and their worth by project, with the sum."""
    table, total = [], Decimal(0)
    for row in rows:
        hours = (Decimal(row["minutes"]) / 60).quantize(Decimal("0.01"))
        total += hours
        worth = hours * row["project__hourly_rate"]
        table.append(
            [
                row["project__organization__name"],
                row["project__name"],
                row["project__customer_name"],
                hours,
                f"{worth:,.2f} {row['project__organization__currency']}",
            ]
        )
    return reports.Content(
        headings=["Organization", "Project", "Customer", "Hours", "Worth"],
        rows=table,
        figures={"Hours in all": total},
        numeric=frozenset({3, 4}),
    )


def fetch_entries(days: reports.DateRange, organization: str = "") -> Iterator[dict[str, Any]]:
    """Yield the time entries of some days one by one: there may be very many."""
    entries = TimeEntry.objects.filter(day__range=(days.start, days.end))
    if organization:
        entries = entries.filter(project__organization=organization)
    yield from (
        entries.order_by("day", "pk")
        .values("day", "project__name", "description", "minutes")
        .iterator()
    )


reports.register("hours", title="Hours by project", fetch=fetch_hours, process=tabulate_hours)
reports.register(
    "time-entries",
    title="Time entries",
    fetch=fetch_entries,
    columns={
        "day": "Day",
        "project__name": "Project",
        "description": "What was done",
        "minutes": "Minutes",
    },
)
orphans.register("reports/", orphans.of_jobs)  # reports go when the rows of their jobs have gone
