"""Operator actions on schedules, each with an ``AuditEntry`` in the same transaction.

The functions for one schedule raise ``InvalidOperation`` when its state forbids the action; those
in the plural do what is possible and report the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError, RestrictedError
from django.utils.translation import gettext as _

from .. import payload, schedules
from ..database import database_of
from ..enqueueing.handle import JobHandle
from ..errors import InvalidOperation, WellosJobsError
from ..models import Schedule
from ..states import AuditAction
from .audit import Actor, BulkResult, try_each

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
"""The columns whose changes the audit entry lists."""


# --- one at a time --------------------------------------------------------------------------------


def run_schedule_now(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> JobHandle:
    """Enqueue a schedule's job now, in addition to its regular runs; disabled schedules too.

    Raises:
        InvalidOperation: its job or its data is no longer valid.
    """
    with transaction.atomic(using=database_of(schedule)):
        try:
            handle = schedules.run_now(schedule, requested_by=by)
        except (WellosJobsError, TypeError) as error:
            raise InvalidOperation(_cannot_run(schedule, error)) from error
        _record(Actor(by, reason, address), AuditAction.RAN, schedule, job=str(handle))
    return handle


def enable_schedule(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Enable a schedule: it runs next when it is due after now.

    Raises:
        InvalidOperation: it is enabled already, was removed, or is invalid.
    """
    _switch(schedule, True, Actor(by, reason, address))


def disable_schedule(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Disable a schedule; the jobs it has enqueued stay enqueued.

    Raises: as ``enable_schedule``.
    """
    _switch(schedule, False, Actor(by, reason, address))


def save_schedule(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Store a new or changed schedule. The audit entry lists the changes, if there are any.

    Raises:
        ValidationError: the schedule is invalid; nothing is stored.
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
            action = AuditAction.CHANGED if known else AuditAction.CREATED
            _record(Actor(by, reason, address), action, schedule, changes=changes)


def delete_schedule(
    schedule: Schedule, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Delete a schedule. A declared one stays deleted until a schedule of its name is added.

    Raises:
        InvalidOperation: it was deleted already, or a row of the project holds it.
    """
    detail = {"job": schedule.job_name, "cron": schedule.cron}
    using = database_of(schedule)
    try:
        with transaction.atomic(using=using):
            _record(Actor(by, reason, address), AuditAction.REMOVED, schedule, **detail)
            if not schedules.remove_schedule(schedule.name, using):
                raise InvalidOperation(
                    _("Schedule %(name)s was already deleted") % {"name": schedule.name}
                )
    except (ProtectedError, RestrictedError) as error:
        text = _("Schedule %(name)s is held by %(holders)s: delete those first, or disable it")
        holding = ", ".join(sorted({row._meta.label for row in _holding(error)}))
        raise InvalidOperation(text % {"name": schedule.name, "holders": holding}) from error


def _holding(error: ProtectedError | RestrictedError) -> Iterable[Any]:
    if isinstance(error, ProtectedError):
        return error.protected_objects
    return error.restricted_objects


# --- many -----------------------------------------------------------------------------------------


def run_schedules_now(
    rows: Iterable[Schedule], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Run all of ``rows`` now."""
    return _each(rows, run_schedule_now, by=by, reason=reason, address=address)


def enable_schedules(
    rows: Iterable[Schedule], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Enable all of ``rows`` that are disabled."""
    return _each(rows, enable_schedule, by=by, reason=reason, address=address)


def disable_schedules(
    rows: Iterable[Schedule], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Disable all of ``rows`` that are enabled."""
    return _each(rows, disable_schedule, by=by, reason=reason, address=address)


def delete_schedules(
    rows: Iterable[Schedule], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Delete all of ``rows``."""
    return _each(rows, delete_schedule, by=by, reason=reason, address=address)


# --- steps ----------------------------------------------------------------------------------------


def _each(rows: Iterable[Schedule], step: Callable[..., Any], **actor: Any) -> BulkResult:
    result = BulkResult()
    try_each(result, rows, partial(step, **actor))
    return result


def _switch(schedule: Schedule, on: bool, actor: Actor) -> None:
    using = database_of(schedule)
    with transaction.atomic(using=using):
        row = Schedule.objects.using(using).filter(pk=schedule.pk).select_for_update().first()
        if row is None:
            raise InvalidOperation(
                _("Schedule %(name)s was already deleted") % {"name": schedule.name}
            )
        if row.enabled == on:
            state = _("enabled") if on else _("disabled")
            raise InvalidOperation(
                _("Schedule %(name)s is %(state)s already") % {"name": row.name, "state": state}
            )

        row.enabled = on
        try:
            row.save(using=using)
        except ValidationError as error:
            raise InvalidOperation(_cannot_run(row, error)) from error
        _record(actor, AuditAction.ENABLED if on else AuditAction.DISABLED, row)


def _cannot_run(schedule: Schedule, error: Exception) -> str:
    text = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    return _("Schedule %(name)s cannot run: %(error)s") % {"name": schedule.name, "error": text}


def _record(actor: Actor, action: AuditAction, schedule: Schedule, **detail: Any) -> None:
    using = database_of(schedule)
    actor.record(using, action, "schedule", schedule.pk, name=schedule.name, **detail)


def _plain(value: Any) -> Any:
    """Return a column's value as JSON, with sensitive data redacted."""
    if isinstance(value, datetime):
        return value.isoformat()
    return payload.mask(value) if isinstance(value, dict) else value
