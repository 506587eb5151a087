"""Schedules set, changed, removed and run by code, each in the caller's transaction.

What is declared with ``@job(schedule=...)`` or in settings becomes rows in ``declarations``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connections, router, transaction
from django.utils import timezone

from .. import payload
from ..cron import Cron, Every
from ..definitions import registry
from ..enqueueing.enqueue import JobOptions, build
from ..enqueueing.handle import JobHandle
from ..enqueueing.insertion import insert
from ..errors import BadOption, UnknownSchedule
from ..models import OrganizationReportSchedule, Schedule
from ..models.report_data import REPORT_PREFIX
from .declared import Synchronised, synchronise

__all__ = [
    "Cron",
    "Every",
    "Synchronised",
    "remove_schedule",
    "run_now",
    "schedule_organization_reports",
    "synchronise",
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
    """Set the report schedule of an organization, in the caller's transaction; there is one for each.

    ``changes``: ``tz`` (empty: the organization's zone), ``enabled``, ``catch_up``,
    ``catch_up_limit``, ``overlap``, ``starts_at``, ``ends_at``.

    Raises:
        ValidationError: the schedule cannot be meant; nothing is changed.
        BadOption: an option does not exist.
    """
    organization = str(organization_id)
    options = {"report_type": report_type, "format": format, "recipients": list(recipients)}
    changes = {
        "organization_id": organization,
        "enabled": True,
        "data": {"organization_id": organization, **options},
        **changes,
    }
    using, name = router.db_for_write(Schedule), f"{REPORT_PREFIX}{organization}"
    with transaction.atomic(using=using):
        row = _report(name, using)
        if row is None:
            row = OrganizationReportSchedule(name=name, job_name=REPORT_JOB)
            _apply(row, cron, changes)
            row = _inserted(row, using)
        _apply(row, cron, changes)
        row.save(using=using)
    return row


def update_schedule(name: str, cron: str | Every | Cron | None = None, **changes: Any) -> Schedule:
    """Change a schedule by its name, or an organization's report schedule by the organization's id.

    The old line never fires again once the caller's transaction commits. ``changes`` are those of
    ``schedule_organization_reports``, ``data`` and ``organization_id``; for a report also
    ``report_type``, ``format`` and ``recipients``. Without any change it takes note of an
    organization's new zone.

    Raises:
        UnknownSchedule: there is none of this name.
        ValidationError: the change cannot be meant; nothing is changed.
        BadOption: an option does not exist.
    """
    using = router.db_for_write(Schedule)
    with transaction.atomic(using=using):
        row = _find(name, using, lock=True)
        _apply(row, cron, changes)
        row.save(using=using)
    return row


def remove_schedule(name: str) -> bool:
    """Remove a schedule; tell whether there was one. One that code declares stays removed over every sync.

    To have it back, create a schedule of that name.
    """
    using = router.db_for_write(Schedule)
    with transaction.atomic(using=using):
        try:
            row = _find(name, using, lock=True)
        except UnknownSchedule:
            return False
        if row.source:  # the row stays behind, and with it the history of its runs
            rows = Schedule._base_manager.using(using).filter(pk=row.pk)
            rows.update(removed_at=timezone.now(), enabled=False, next_run_at=None, planned_for="")
        else:
            row.delete()
    return True


def run_now(schedule: Schedule | str, *, requested_by: Any = None) -> JobHandle:
    """Enqueue a schedule's job at once, in the caller's transaction and beside its calendar.

    Raises:
        UnknownSchedule: there is none of this name.
        UnknownJob: nobody declares its job.
    """
    row = _find(schedule, router.db_for_write(Schedule)) if isinstance(schedule, str) else schedule
    options = JobOptions(
        organization=row.organization_id or None, requested_by=requested_by, database=row._state.db
    )
    job = build(row.job_name, payload.decode(row.data), options, registry.get(row.job_name))
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


def _inserted(row: OrganizationReportSchedule, using: str) -> OrganizationReportSchedule:
    """Insert a row, or wait for whoever is just inserting one of its name; return the row that is there, locked.

    By an upsert that changes nothing: after a plain INSERT that fails, those who lost the race
    deadlock on MySQL.
    """
    row.validate_row()
    row.set_first_run()
    target = ["name"] if connections[using].features.supports_update_conflicts_with_target else None
    OrganizationReportSchedule._base_manager.using(using).bulk_create(
        [row], update_conflicts=True, update_fields=["name"], unique_fields=target
    )
    found = _report(row.name, using)
    if found is None:  # the name is that of a removed one: this row is to take its place
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
            raise BadOption(
                f"A schedule has no option {option!r}; there are {', '.join(sorted(CHANGEABLE | {'tz'}))}"
            )
    if isinstance(line, Cron):
        row.cron = line.line
        row.time_zone = line.zone_name or row.time_zone
    elif line is not None:
        row.cron = str(line)
