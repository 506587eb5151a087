"""Schedules that code and settings declare, brought into rows that people may then change.

Every option of a declaration is remembered beside the row's own: where both agree, nobody has
changed it, and the row follows the declaration; where they differ, a person has had the last word.
Job and data are always the code's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, router, transaction

from .. import conf, payload
from ..cron import Cron, Every
from ..definitions import registry
from ..errors import BadOption, WellosJobsError
from ..models import Schedule

OPTIONS = ("organization_id", "catch_up", "catch_up_limit", "overlap", "starts_at", "ends_at")
"""What an entry of ``WELLOS_JOBS["SCHEDULES"]`` may say besides job, cron, tz and data."""


@dataclass(frozen=True)
class Declaration:
    """A schedule that code or settings declare. ``columns`` are those that people may change, defaults included."""

    name: str
    job_name: str
    source: str
    columns: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Synchronised:
    """What ``synchronise`` did, by schedule name, and what it could not do, with the reason."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.created or self.changed or self.disabled or self.failed)


def declarations(failed: dict[str, str] | None = None) -> Iterator[Declaration]:
    """Yield every declared schedule: those of ``@job`` under the job's name, those of settings under their key.

    Raises:
        BadOption, CronError: an entry of ``WELLOS_JOBS["SCHEDULES"]`` cannot be meant. With
        ``failed`` it is noted
            there instead, and the others are yielded.
    """
    for definition in registry.all_jobs():
        if definition.schedule is not None:
            yield Declaration(
                definition.name, definition.name, "code", _columns(definition.schedule, {})
            )
    for name, entry in conf.current().schedules.items():
        try:
            yield _from_settings(name, entry)
        except WellosJobsError as error:
            if failed is None:
                raise
            failed[name] = str(error)


def synchronise(database: str | None = None) -> Synchronised:
    """Bring the rows in line with what code and settings declare, leaving alone what people changed.

    A removed schedule stays removed; a declaration that is gone is disabled, and enabled again when
    it comes back. A declaration that cannot be meant is left out, and its row stays as it is; the
    others are served.
    """
    using = database or router.db_for_write(Schedule)
    done = Synchronised()
    declared = {declaration.name: declaration for declaration in declarations(done.failed)}
    for declaration in declared.values():
        try:
            with transaction.atomic(using=using):
                _bring(declaration, using, done)
        except ValidationError as error:
            done.failed[declaration.name] = "; ".join(error.messages)
        except WellosJobsError as error:
            done.failed[declaration.name] = str(error)
    for row in Schedule.objects.using(using).filter(enabled=True).exclude(source=""):
        if row.name not in declared and row.name not in done.failed:
            _disable(row, using, done)
    return done


def _from_settings(name: str, entry: Any) -> Declaration:
    place = f"WELLOS_JOBS['SCHEDULES'][{name!r}]"
    if not isinstance(entry, Mapping) or not {"job", "cron"} <= entry.keys():
        raise BadOption(f"{place} must be a dict with the keys 'job' and 'cron'")
    known = {"job", "cron", "tz", "data", *OPTIONS}
    if unknown := entry.keys() - known:
        raise BadOption(f"{place} has unknown keys {sorted(unknown)}; known: {sorted(known)}")
    if not isinstance(entry.get("data", {}), Mapping):
        raise BadOption(f"{place}['data'] must be a dict of the job's arguments")
    line = entry["cron"]
    if not isinstance(line, Cron):
        line = Cron(line, tz=entry.get("tz"))
    job = str(getattr(entry["job"], "name", entry["job"]))
    return Declaration(name, job, "settings", _columns(line, entry), entry.get("data", {}))


def _columns(line: Cron, options: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {
        column.name: column.get_default()
        for column in Schedule._meta.concrete_fields
        if column.name in OPTIONS
    }
    chosen = {name: options[name] for name in OPTIONS if name in options}
    return {"cron": line.line, "time_zone": line.zone_name or "", **defaults, **chosen}


# --- rows -----------------------------------------------------------------------------------------


def _bring(declaration: Declaration, using: str, done: Synchronised) -> None:
    """Create the row of a declaration, or let it follow where nobody has changed it."""
    rows = Schedule._base_manager.using(using).select_for_update()
    row = rows.filter(name=declaration.name).first()
    if row is not None:
        if row.removed_at is None and _follow(row, declaration):
            row.save(using=using)
            done.changed.append(row.name)
        return
    row = Schedule(name=declaration.name)
    _follow(row, declaration)
    try:
        with transaction.atomic(using=using):
            row.save(using=using)
    except IntegrityError:
        # Without a lock: on MySQL all who lost the race share one, and could not make it their own.
        if not Schedule._base_manager.using(using).filter(name=declaration.name).exists():
            raise
        return  # another process has just synchronised
    done.created.append(row.name)


def _follow(row: Schedule, declaration: Declaration) -> bool:
    """Set what nobody has changed; tell whether anything is different now."""
    fields = [column.attname for column in row._meta.concrete_fields]
    before = {name: getattr(row, name) for name in fields}
    for name, value in declaration.columns.items():
        if row._state.adding or (
            name in row.declared and _plain(getattr(row, name)) == row.declared[name]
        ):
            setattr(row, name, value)
    row.declared = {name: _plain(value) for name, value in declaration.columns.items()}
    row.job_name, row.source = declaration.job_name, declaration.source
    data = payload.encode(declaration.data)
    if row._state.adding or payload.decode(row.data) != payload.decode(data):
        row.data = data
    if row.orphaned:
        row.orphaned, row.enabled = False, True
    return any(getattr(row, name) != value for name, value in before.items())


def _disable(row: Schedule, using: str, done: Synchronised) -> None:
    """Switch off a schedule whose declaration is gone, and remember that it was on. Its job may be gone as well."""
    if row.orphaned:  # a person has switched it on since
        return
    rows = Schedule._base_manager.using(using).filter(pk=row.pk, enabled=True)
    if rows.update(enabled=False, orphaned=True, next_run_at=None, planned_for=""):
        done.disabled.append(row.name)


def _plain(value: Any) -> Any:
    """Return a column's value as JSON keeps it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, str | Every) else value
