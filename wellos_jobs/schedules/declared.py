"""Bring the rows of declared schedules in line with code and settings, keeping users' changes.

A row stores the declared value of each option beside its own: where they are equal, the row follows
the declaration; where they differ, a user has changed it, and it stays. Job and data always follow
the declaration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from .. import conf, payload
from ..cron import Cron, Every
from ..database import database_for_new
from ..definitions import registry
from ..errors import BadOption, WellosJobsError
from ..models import Schedule

OPTIONS = ("organization_id", "catch_up", "catch_up_limit", "overlap", "starts_at", "ends_at")
"""Options of an entry of ``WELLOS_JOBS["SCHEDULES"]`` besides job, cron, tz and data."""


@dataclass(frozen=True)
class Declaration:
    """A schedule declared in code or settings. ``columns`` holds the options, with defaults."""

    name: str
    job_name: str
    source: str
    columns: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class SyncResult:
    """What ``synchronize`` did, as schedule names; ``failed`` maps names to reasons."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.created or self.changed or self.disabled or self.failed)


def declarations(failed: dict[str, str] | None = None) -> Iterator[Declaration]:
    """Yield every declared schedule: of ``@job`` by the job's name, of settings by their key.

    Raises:
        BadOption, CronError: an entry of ``WELLOS_JOBS["SCHEDULES"]`` is invalid. With ``failed``
            the error is stored there instead, and the others are yielded.
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


def synchronize(database: str | None = None) -> SyncResult:
    """Create, change and disable rows as declared; options changed by users stay.

    Removed schedules stay removed. A schedule no longer declared is disabled, and enabled
    again when it returns. The row of an invalid declaration is not changed.
    """
    using = database_for_new(database)
    done = SyncResult()
    declared = {declaration.name: declaration for declaration in declarations(done.failed)}

    for declaration in declared.values():
        try:
            with transaction.atomic(using=using):
                _synchronize_row(declaration, using, done)
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


def _synchronize_row(declaration: Declaration, using: str, done: SyncResult) -> None:
    """Create or update the row of a declaration."""
    rows = Schedule._base_manager.using(using).select_for_update()
    row = rows.filter(name=declaration.name).first()
    if row is not None:
        if row.removed_at is None and _apply_declaration(row, declaration):
            row.save(using=using)
            done.changed.append(row.name)
        return

    row = Schedule(name=declaration.name)
    _apply_declaration(row, declaration)
    try:
        with transaction.atomic(using=using):
            row.save(using=using)
    except IntegrityError:
        # Read without a lock: on MySQL the losers of the race share one and would deadlock.
        if not Schedule._base_manager.using(using).filter(name=declaration.name).exists():
            raise
        return  # a concurrent sync has inserted it
    done.created.append(row.name)


def _apply_declaration(row: Schedule, declaration: Declaration) -> bool:
    """Set the options that no user has changed; return whether the row has changed."""
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
    definition = registry.find(declaration.job_name)
    version = definition.version if definition else row.version
    is_same = row.version == version and payload.decode(row.data) == payload.decode(data)
    if row._state.adding or not is_same:
        row.set_data(data, version)
    if row.orphaned:
        row.orphaned, row.enabled = False, True

    return any(getattr(row, name) != value for name, value in before.items())


def _disable(row: Schedule, using: str, done: SyncResult) -> None:
    """Disable a schedule that is no longer declared. ``orphaned`` records that it was enabled.

    By an update, not ``save``: its job may no longer be declared either.
    """
    if row.orphaned:  # a user has enabled it since
        return
    rows = Schedule._base_manager.using(using).filter(pk=row.pk, enabled=True)
    if rows.update(enabled=False, orphaned=True, next_run_at=None, planned_for=""):
        done.disabled.append(row.name)


def _plain(value: Any) -> Any:
    """Return a column's value as stored in JSON."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, str | Every) else value
