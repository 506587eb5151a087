"""Acts of a person on schedules, each with its ``AuditEntry`` in the same transaction.

The plain verbs raise ``InvalidOperation`` when the act is not possible; those in the plural do what
can be done, and report the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from .. import payload, schedules
from ..enqueueing.handle import JobHandle
from ..errors import InvalidOperation, WellosJobsError
from ..models import Schedule
from .audit import Act, Report, database_of, try_each

RECORDED = (
    "name",
    "job_name",
    "data",
    "cron",
    "time_zone",
    "organization_id",
    "enabled",
    "catch_up",
    "catch_up_limit",
    "overlap",
    "starts_at",
    "ends_at",
)
"""The columns whose changes stand in the audit entry."""


# --- one at a time --------------------------------------------------------------------------------


def run_schedule_now(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> JobHandle:
    """Enqueue a schedule's job at once, beside its calendar; also that of one that is switched off.

    Raises:
        InvalidOperation: its job or its data cannot be meant any longer.
    """
    with transaction.atomic(using=database_of(schedule)):
        try:
            handle = schedules.run_now(schedule, requested_by=by)
        except (WellosJobsError, TypeError) as error:
            raise InvalidOperation(_cannot(schedule, error)) from error
        _note(Act(by, reason, address), "ran", schedule, job=str(handle))
    return handle


def enable_schedule(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Switch a schedule on: it runs next when it is due after now.

    Raises:
        InvalidOperation: it is on already, was removed, or cannot be meant.
    """
    _switch(schedule, True, Act(by, reason, address))


def disable_schedule(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Switch a schedule off; what it has enqueued stays enqueued.

    Raises: as ``enable_schedule``.
    """
    _switch(schedule, False, Act(by, reason, address))


def save_schedule(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Store a new or a changed schedule. The audit entry says what has changed; without a change there is none.

    Raises:
        ValidationError: the schedule cannot be meant; nothing is stored.
    """
    using = database_of(schedule)
    with transaction.atomic(using=using):
        known = Schedule.objects.using(using).filter(pk=schedule.pk).select_for_update().first()
        schedule.save(using=using)
        changes = {
            name: [_plain(getattr(known, name, None)), _plain(getattr(schedule, name))]
            for name in RECORDED
            if getattr(known, name, None) != getattr(schedule, name)
        }
        if changes:
            _note(
                Act(by, reason, address),
                "changed" if known else "created",
                schedule,
                changes=changes,
            )


def delete_schedule(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Remove a schedule. One that code declares stays removed over every sync, until one of its name is made.

    Raises:
        InvalidOperation: it is gone already.
    """
    with transaction.atomic(using=database_of(schedule)):
        _note(
            Act(by, reason, address), "removed", schedule, job=schedule.job_name, cron=schedule.cron
        )
        if not schedules.remove_schedule(schedule.name):
            raise InvalidOperation(_("Schedule %(name)s is gone already") % {"name": schedule.name})


# --- many -----------------------------------------------------------------------------------------


def run_schedules_now(
    rows: Iterable[Schedule], *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Run all of ``rows`` now."""
    return _each(rows, run_schedule_now, by=by, reason=reason, address=address)


def enable_schedules(
    rows: Iterable[Schedule], *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Enable all of ``rows`` that are off."""
    return _each(rows, enable_schedule, by=by, reason=reason, address=address)


def disable_schedules(
    rows: Iterable[Schedule], *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Disable all of ``rows`` that are on."""
    return _each(rows, disable_schedule, by=by, reason=reason, address=address)


def delete_schedules(
    rows: Iterable[Schedule], *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Remove all of ``rows``."""
    return _each(rows, delete_schedule, by=by, reason=reason, address=address)


# --- steps ----------------------------------------------------------------------------------------


def _each(rows: Iterable[Schedule], step: Callable[..., Any], **act: Any) -> Report:
    report = Report()
    try_each(report, rows, partial(step, **act))
    return report


def _switch(schedule: Schedule, on: bool, act: Act) -> None:
    using = database_of(schedule)
    with transaction.atomic(using=using):
        row = Schedule.objects.using(using).filter(pk=schedule.pk).select_for_update().first()
        if row is None:
            raise InvalidOperation(_("Schedule %(name)s is gone already") % {"name": schedule.name})
        if row.enabled == on:
            state = _("enabled") if on else _("disabled")
            raise InvalidOperation(
                _("Schedule %(name)s is %(state)s already") % {"name": row.name, "state": state}
            )
        row.enabled = on
        try:
            row.save(using=using)
        except ValidationError as error:
            raise InvalidOperation(_cannot(row, error)) from error
        _note(act, "enabled" if on else "disabled", row)


def _cannot(schedule: Schedule, error: Exception) -> str:
    text = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    return _("Schedule %(name)s cannot run: %(error)s") % {"name": schedule.name, "error": text}


def _note(act: Act, action: str, schedule: Schedule, **detail: Any) -> None:
    entry = act.entry(action, "schedule", schedule.pk, name=schedule.name, **detail)
    entry.save(using=database_of(schedule))


def _plain(value: Any) -> Any:
    """Return a column's value as it may be read by everybody."""
    if isinstance(value, datetime):
        return value.isoformat()
    return payload.mask(value) if isinstance(value, dict) else value
