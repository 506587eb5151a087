"""Schedules from code: declared with ``@job(schedule=...)`` or in settings, and set, changed and removed by helpers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import router, transaction
from django.utils import timezone

from . import conf, registry
from .cron import Cron, Every
from .enqueue import JobOptions, build, insert
from .errors import BadOption, UnknownSchedule
from .handles import JobHandle
from .models import OrganizationReportSchedule, Schedule
from .models.schedule import REPORT_PREFIX

__all__ = [
    "Cron",
    "Every",
    "remove_schedule",
    "run_now",
    "schedule_organization_reports",
    "synchronise",
    "update_schedule",
]

logger = logging.getLogger("wellos_jobs")

REPORT_JOB = "org-report"
CHANGEABLE = frozenset(
    {"time_zone", "enabled", "catch_up", "catch_up_limit", "overlap", "starts_at", "ends_at", "data", "organization_id"}
)


@dataclass(frozen=True)
class Declaration:
    """A schedule that code or settings declare."""

    name: str
    job_name: str
    cron: Cron
    source: str
    data: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Synchronised:
    """What ``synchronise`` did, by schedule name."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)


# --- declarations ---------------------------------------------------------------------------------------


def declarations() -> Iterator[Declaration]:
    """Yield every declared schedule: those of ``@job`` under the job's name, those of settings under their key.

    Raises:
        BadOption: an entry of ``WELLOS_JOBS["SCHEDULES"]`` cannot be meant.
    """
    for definition in registry.all_jobs():
        if definition.schedule is not None:
            yield Declaration(definition.name, definition.name, definition.schedule, "code")
    for name, entry in conf.current().schedules.items():
        yield _from_settings(name, entry)


def synchronise(database: str | None = None) -> Synchronised:
    """Bring the rows in line with what code and settings declare, leaving alone what people changed.

    A cron line or zone that was changed by hand stays, as does ``enabled``; a removed schedule stays removed; a
    declaration that is gone is disabled, and enabled again when it comes back.

    Raises:
        ValidationError: a declared schedule cannot be meant.
    """
    using = database or router.db_for_write(Schedule)
    done = Synchronised()
    with transaction.atomic(using=using):
        rows = {row.name: row for row in Schedule.objects.using(using).select_for_update()}
        declared = {declaration.name: declaration for declaration in declarations()}
        for name, declaration in declared.items():
            row = rows.get(name)
            if row is None:
                _create(declaration, using)
                done.created.append(name)
            elif row.removed_at is None and _follow(row, declaration):
                row.save(using=using)
                done.changed.append(name)
        for name, row in rows.items():
            if row.source and name not in declared and not row.orphaned:
                row.orphaned, row.enabled = row.enabled, False
                if row.orphaned:
                    row.save(using=using)
                    done.disabled.append(name)
    return done


def _from_settings(name: str, entry: Any) -> Declaration:
    if not isinstance(entry, Mapping) or not {"job", "cron"} <= entry.keys():
        raise BadOption(f"WELLOS_JOBS['SCHEDULES'][{name!r}] must be a dict with the keys 'job' and 'cron'")
    known = CHANGEABLE - {"data", "enabled", "time_zone"} | {"job", "cron", "tz", "data"}
    if unknown := entry.keys() - known:
        raise BadOption(
            f"WELLOS_JOBS['SCHEDULES'][{name!r}] has unknown keys {sorted(unknown)}; known: {sorted(known)}"
        )
    line = entry["cron"] if isinstance(entry["cron"], Cron) else Cron(entry["cron"], tz=entry.get("tz"))
    options = {key: value for key, value in entry.items() if key in CHANGEABLE and key != "data"}
    return Declaration(name, entry["job"], line, "settings", entry.get("data", {}), options)


def _create(declaration: Declaration, using: str) -> None:
    line, zone = declaration.cron.line, declaration.cron.zone_name or ""
    row = Schedule(
        name=declaration.name,
        job_name=declaration.job_name,
        data=dict(declaration.data),
        cron=line,
        time_zone=zone,
        source=declaration.source,
        declared_cron=line,
        declared_zone=zone,
        **declaration.options,
    )
    row.save(using=using)


def _follow(row: Schedule, declaration: Declaration) -> bool:
    """Let a row follow its declaration where nobody has changed it; tell whether anything is different now."""
    before = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    line, zone = declaration.cron.line, declaration.cron.zone_name or ""
    if (row.cron, row.time_zone) == (row.declared_cron, row.declared_zone) or not row.source:
        row.cron, row.time_zone = line, zone
    row.declared_cron, row.declared_zone = line, zone
    row.job_name, row.data, row.source = declaration.job_name, dict(declaration.data), declaration.source
    if row.orphaned:
        row.orphaned, row.enabled = False, True
    return any(getattr(row, name) != value for name, value in before.items())


# --- helpers --------------------------------------------------------------------------------------------


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

    Raises:
        ValidationError: the schedule cannot be meant; nothing is changed.
        BadOption: an option does not exist.
    """
    data = {
        "organization_id": str(organization_id),
        "report_type": report_type,
        "format": format,
        "recipients": list(recipients),
    }
    using = router.db_for_write(Schedule)
    name = f"{REPORT_PREFIX}{organization_id}"
    with transaction.atomic(using=using):
        rows = OrganizationReportSchedule.objects.using(using).select_for_update()
        row = rows.filter(name=name).first() or OrganizationReportSchedule(name=name, job_name=REPORT_JOB)
        row.removed_at = None
        _apply(row, cron, {"data": data, "organization_id": str(organization_id), "enabled": True, **changes})
        row.save(using=using)
    return row


def update_schedule(name: str, cron: str | Every | Cron | None = None, **changes: Any) -> Schedule:
    """Change a schedule by its name, or an organization's report schedule by the organization's id.

    The old line never fires again once the caller's transaction commits.

    Raises:
        UnknownSchedule: there is none of this name.
        ValidationError: the change cannot be meant; nothing is changed.
        BadOption: an option does not exist.
    """
    using = router.db_for_write(Schedule)
    with transaction.atomic(using=using):
        row = _find(name, using)
        _apply(row, cron, changes)
        row.save(using=using)
    return row


def remove_schedule(name: str) -> bool:
    """Remove a schedule; tell whether there was one. One that code declares stays removed over every sync."""
    using = router.db_for_write(Schedule)
    with transaction.atomic(using=using):
        try:
            row = _find(name, using)
        except UnknownSchedule:
            return False
        if row.source:
            row.removed_at, row.enabled = timezone.now(), False
            row.save(using=using)
        else:
            row.delete()
    return True


def run_now(schedule: Schedule | str, *, requested_by: Any = None) -> JobHandle:
    """Enqueue a schedule's job at once, beside its calendar.

    Raises:
        UnknownSchedule: there is none of this name.
    """
    using = router.db_for_write(Schedule)
    row = _find(schedule, using) if isinstance(schedule, str) else schedule
    options = JobOptions(organization=row.organization_id or None, requested_by=requested_by, database=using)
    job = build(row.job_name, row.data, options)
    job.schedule_id = row.pk
    job.context["run_now"] = True
    return insert([job])[0]


def _find(name: str, using: str) -> Schedule:
    rows = Schedule.objects.using(using).filter(removed_at=None).select_for_update()
    row = rows.filter(name=name).first() or rows.filter(name=f"{REPORT_PREFIX}{name}").first()
    if row is None:
        raise UnknownSchedule(f"There is no schedule {name!r}")
    return row


def _apply(row: Schedule, line: str | Every | Cron | None, changes: Mapping[str, Any]) -> None:
    for option, value in changes.items():
        if option not in CHANGEABLE:
            raise BadOption(f"A schedule has no option {option!r}; there are {', '.join(sorted(CHANGEABLE))}")
        setattr(row, option, getattr(value, "key", value) if option == "time_zone" else value)
    if isinstance(line, Cron):
        row.cron = line.line
        row.time_zone = line.zone_name or row.time_zone
    elif line is not None:
        row.cron = str(line)
