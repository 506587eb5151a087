"""All jobs and reports of this app."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from django.db.models import Sum

from wellos_jobs.contrib import orphans, reports

from .csv_import import import_chunk, summarize_import
from .external_import import import_time_entries
from .models import TimeEntry
from .recurring import sync_time_entries, weekly_summary

__all__ = [
    "import_chunk",
    "import_time_entries",
    "summarize_import",
    "sync_time_entries",
    "weekly_summary",
]


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
    """Return hours and their value by project, with the total."""
    table, total = [], Decimal(0)
    for row in rows:
        hours = (Decimal(row["minutes"]) / 60).quantize(Decimal("0.01"))
        total += hours

        value = hours * row["project__hourly_rate"]
        table.append(
            [
                row["project__organization__name"],
                row["project__name"],
                row["project__customer_name"],
                hours,
                f"{value:,.2f} {row['project__organization__currency']}",
            ]
        )
    return reports.Content(
        headings=["Organization", "Project", "Customer", "Hours", "Value"],
        rows=table,
        figures={"Total hours": total},
        numeric=frozenset({3, 4}),
    )


def fetch_entries(days: reports.DateRange, organization: str = "") -> Iterator[dict[str, Any]]:
    """Yield time entries one by one, because there may be very many."""
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
        "description": "Description",
        "minutes": "Minutes",
    },
)
# Report files are deleted once the rows of their jobs are gone.
orphans.register("reports/", orphans.of_jobs)
