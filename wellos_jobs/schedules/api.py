"""Create, change, remove and run schedules from code, in the caller's transaction.

Schedules declared by ``@job(schedule=...)`` or in settings are in ``declared``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connections, transaction
from django.utils import timezone

from ..cron import Cron, Every
from ..database import database_for_new, database_of, newest
from ..definitions import registry
from ..enqueueing.enqueue import JobOptions, build
from ..enqueueing.handle import JobHandle
from ..enqueueing.insertion import insert
from ..errors import BadOption, UnknownSchedule
from ..models import OrganizationReportSchedule, Schedule
from ..models.report_data import REPORT_PREFIX
from .declared import SyncResult, synchronize

__all__ = [
    "Cron",
    "Every",
    "SyncResult",
    "remove_schedule",
    "run_now",
    "schedule_organization_reports",
    "synchronize",
    "update_schedule",
]

REPORT_JOB = "org-report"
REPORT_OPTIONS = frozenset({"report_type", "format", "recipients"})
CHANGEABLE = frozenset(
    {
        "time_zone",
        "enabled",
        "catch_up",
        "catch_up_limit",
        "overlap",
        "starts_at",
        "ends_at",
        "data",
        "organization_id",
    }
)


def schedule_organization_reports(
    organization_id: str,
    cron: str | Every | Cron,
    *,
    report_type: str = "",
    format: str = "pdf",
    recipients: tuple[str, ...] | list[str] = (),
    **changes: Any,
) -> OrganizationReportSchedule:
    """Create or change the report schedule of an organization; each has at most one.

    ``changes``: ``tz`` (empty: the organization's zone), ``enabled``, ``catch_up``,
    ``catch_up_limit``, ``overlap``, ``starts_at``, ``ends_at``.

    Raises:
        ValidationError: the schedule is invalid; nothing is changed.
        BadOption: unknown option.
    """
    organization = str(organization_id)
    options = {"report_type": report_type, "format": format, "recipients": list(recipients)}
    changes = {
        "organization_id": organization,
        "enabled": True,
        "data": {"organization_id": organization, **options},
        **changes,
    }
    using = database_for_new()
    name = f"{REPORT_PREFIX}{organization}"

    with transaction.atomic(using=using):
        row = _report(name, using)
        if row is None:
            row = OrganizationReportSchedule(name=name, job_name=REPORT_JOB)
            _apply(row, cron, changes)
            row = _insert_or_get(row, using)
        _apply(row, cron, changes)
        row.save(using=using)
    return row


def update_schedule(name: str, cron: str | Every | Cron | None = None, **changes: Any) -> Schedule:
    """Change a schedule by its name, or an organization's report schedule by the organization's id.

    The old cron line never fires again once the caller's transaction commits. ``changes`` are those
    of ``schedule_organization_reports``, ``data`` and ``organization_id``; for a report also
    ``report_type``, ``format`` and ``recipients``. Without changes it picks up a new zone of the
    organization.

    Raises:
        UnknownSchedule: there is no schedule with this name.
        ValidationError: the change is invalid; nothing is changed.
        BadOption: unknown option.
    """
    using = database_for_new()
    with transaction.atomic(using=using):
        row = _find(name, using, lock=True)
        _apply(row, cron, changes)
        row.save(using=using)
    return row


def remove_schedule(name: str, database: str | None = None) -> bool:
    """Remove a schedule; return whether there was one.

    A schedule that code declares stays removed after every sync: to restore it, create a schedule
    with its name.
    """
    using = database_for_new(database)
    with transaction.atomic(using=using):
        try:
            row = _find(name, using, lock=True)
        except UnknownSchedule:
            return False

        if row.source:  # keep the row, and with it the history of its runs
            rows = Schedule._base_manager.using(using).filter(pk=row.pk)
            rows.update(removed_at=timezone.now(), enabled=False, next_run_at=None, planned_for="")
        else:
            row.delete()
    return True


def run_now(schedule: Schedule | str, *, requested_by: Any = None) -> JobHandle:
    """Enqueue a schedule's job now, in the caller's transaction. Its next run does not change.

    Raises:
        UnknownSchedule: there is no schedule with this name.
        UnknownJob: its job is not declared.
    """
    row = _find(schedule, database_for_new()) if isinstance(schedule, str) else newest(schedule)
    options = JobOptions(
        organization=row.organization_id or None,
        requested_by=requested_by,
        database=database_of(row),
    )

    definition = registry.get(row.job_name)
    job = build(row.job_name, row.arguments(definition), options, definition)
    job.schedule_id = row.pk
    job.context["run_now"] = True
    return insert([job])[0]


def _find(name: str, using: str, *, lock: bool = False) -> Schedule:
    rows = Schedule.objects.using(using)
    if lock:
        rows = rows.select_for_update()
    row = rows.filter(name=name).first() or rows.filter(name=f"{REPORT_PREFIX}{name}").first()
    if row is None:
        raise UnknownSchedule(f"There is no schedule {name!r}")
    return row


def _report(name: str, using: str) -> OrganizationReportSchedule | None:
    return (
        OrganizationReportSchedule.objects.using(using)
        .select_for_update()
        .filter(name=name)
        .first()
    )


def _insert_or_get(row: OrganizationReportSchedule, using: str) -> OrganizationReportSchedule:
    """Insert, or wait for a concurrent insert with the same name; return the stored row, locked.

    It is an upsert that changes nothing: on MySQL the losers of a plain INSERT would deadlock.
    """
    row.validate_row()
    row.set_first_run()
    target = ["name"] if connections[using].features.supports_update_conflicts_with_target else None
    OrganizationReportSchedule._base_manager.using(using).bulk_create(
        [row], update_conflicts=True, update_fields=["name"], unique_fields=target
    )

    found = _report(row.name, using)
    if found is None:  # the name is taken by a removed row, which this one replaces
        row.pk, row._state.adding = None, True
        return row
    return found


def _apply(row: Schedule, line: str | Every | Cron | None, changes: Mapping[str, Any]) -> None:
    for option, value in changes.items():
        name = "time_zone" if option == "tz" else option
        if name in REPORT_OPTIONS and row.name.startswith(REPORT_PREFIX):
            row.data = {**row.data, name: list(value) if name == "recipients" else value}
        elif name == "time_zone":
            row.time_zone = "" if value is None else str(value)
        elif name in CHANGEABLE:
            setattr(row, name, value)
        else:
            known = ", ".join(sorted(CHANGEABLE | {"tz"}))
            raise BadOption(f"A schedule has no option {option!r}; use one of {known}")

    if isinstance(line, Cron):
        row.cron = line.line
        row.time_zone = line.zone_name or row.time_zone
    elif line is not None:
        row.cron = str(line)
