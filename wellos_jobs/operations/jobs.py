"""Operator actions on jobs: retry, cancel, promote, change priority, move.

All take ``by`` (a user, or None for a script), ``reason`` and ``address``; a job is given as its
row or its handle. Each writes an ``AuditEntry`` in the same transaction. Permissions are checked by
the caller: the admin or a view. The functions for one job raise ``InvalidOperation`` when its state
forbids the action; the ``..._many`` functions take a queryset or a list, do what is possible, and
report the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

from django.db import transaction
from django.utils.translation import gettext as _

from .. import conf
from ..broker import queues
from ..database import database_of
from ..enqueueing import control
from ..enqueueing.context import current_job
from ..enqueueing.handle import JobHandle
from ..errors import InvalidOperation
from ..models import AuditEntry, JobRecord
from ..states import AuditAction, JobState, Priority
from .audit import (
    Actor,
    BulkResult,
    chunks,
    one_by_one,
    record_of,
    try_each,
    with_redis,
)
from .replay import revive, why_not_retried

# --- one job --------------------------------------------------------------------------------------


def retry(
    job: JobRecord | JobHandle, *, by: Any = None, reason: str = "", address: str = ""
) -> JobRecord:
    """Run a job again: a failed one from the start, a delayed one now.

    The open dead letter of a failed job is replayed.

    Raises:
        InvalidOperation: the job is in another state, or plain RQ code enqueued it.
        RedisUnavailable: the job is delayed, and Redis is unavailable or refuses.
    """
    given = record_of(job)
    using = database_of(given)
    record = JobRecord.objects.using(using).get(pk=given.pk)
    actor = Actor(by, reason, address)

    if record.state == JobState.DELAYED:
        _retry_now(record, using, actor)
    elif not revive(JobRecord.objects.filter(pk=record.pk), using, actor, AuditAction.RETRIED):
        raise InvalidOperation(why_not_retried(record))
    return JobRecord.objects.using(using).get(pk=given.pk)


def cancel(
    job: JobRecord | JobHandle, *, by: Any = None, reason: str = "", address: str = ""
) -> Literal["canceled", "stopping"]:
    """Cancel a job. Its supervisor stops an active one; the answer is then "stopping".

    Raises:
        InvalidOperation: the job is final, or another call has canceled it.
        RedisUnavailable: Redis is unavailable or refuses.
    """
    given = record_of(job)
    using = database_of(given)
    actor = Actor(by, reason, address)

    with transaction.atomic(using=using):
        record = JobRecord.objects.using(using).get(pk=given.pk)
        # The job of a bulk operation repeats itself if its worker dies.
        running = current_job(None)
        by_job = "" if running is None else str(running.id)
        if JobState(record.state).is_final and not _lacks_entry(record, using, by_job):
            raise InvalidOperation(
                _("%(job)s cannot be canceled: it is %(state)s already")
                % {"job": record, "state": record.get_state_display()}
            )

        actor.record(using, AuditAction.CANCELED, "job", record.pk, name=record.name)
        answer = with_redis(partial(control.cancel, record, by=by_job))
        if answer == "final":
            raise InvalidOperation(
                _("%(job)s cannot be canceled: it has just ended") % {"job": record}
            )
        if answer == "already":
            raise InvalidOperation(
                _("%(job)s cannot be canceled: another call has just done it") % {"job": record}
            )
    return answer


def promote(
    job: JobRecord | JobHandle, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Run a delayed job now.

    Raises:
        InvalidOperation: the job is not delayed, or plain RQ code enqueued it.
        RedisUnavailable: Redis is unavailable; nothing is changed.
    """
    record = record_of(job)
    using = database_of(record)
    _require_ours(record)

    with transaction.atomic(using=using):
        Actor(by, reason, address).record(using, AuditAction.PROMOTED, "job", record.pk)
        if not with_redis(lambda: control.promote(record)):
            raise InvalidOperation(_("%(job)s is not delayed") % {"job": record})


def change_priority(
    job: JobRecord | JobHandle,
    priority: Priority,
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
) -> JobRecord:
    """Change the priority of a job that has not started.

    Raises:
        InvalidOperation: it has started or is final, or plain RQ code enqueued it.
        ValueError: there is no such priority.
        RedisUnavailable: Redis is unavailable; nothing is changed.
    """
    actor = Actor(by, reason, address)
    chosen = Priority(priority)
    return _relocate(record_of(job), None, chosen, actor, AuditAction.CHANGED_PRIORITY)


def move(
    job: JobRecord | JobHandle, queue: str, *, by: Any = None, reason: str = "", address: str = ""
) -> JobRecord:
    """Move a job that has not started to another queue on the same Redis.

    Raises:
        InvalidOperation: it has started or is final, plain RQ code enqueued it, or the queue is on
            another Redis.
        UnknownQueue: ``RQ_QUEUES`` does not name the queue.
        RedisUnavailable: Redis is unavailable; nothing is changed.
    """
    record = record_of(job)
    _require_same_redis(record, queue)
    return _relocate(record, queue, None, Actor(by, reason, address), AuditAction.MOVED)


# --- many jobs ------------------------------------------------------------------------------------


def retry_many(
    jobs: Iterable[JobRecord], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Retry all of ``jobs`` that can be: failed ones in chunks, delayed ones one by one."""
    actor = Actor(by, reason, address)
    result = BulkResult()
    for using, chunk in chunks(jobs):
        rows = JobRecord.objects.filter(pk__in=chunk)
        revived = {record.pk for record in revive(rows, using, actor, AuditAction.RETRIED)}
        result.done += len(revived)

        left = JobRecord.objects.using(using).filter(pk__in=set(chunk) - revived).order_by("pk")
        try_each(result, left, partial(_retry_delayed, using=using, actor=actor))
    return result


def cancel_many(
    jobs: Iterable[JobRecord], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Cancel all of ``jobs`` that are not final."""
    return one_by_one(cancel, jobs, by=by, reason=reason, address=address)


def promote_many(
    jobs: Iterable[JobRecord], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Run all of ``jobs`` that are delayed now."""
    return one_by_one(promote, jobs, by=by, reason=reason, address=address)


def change_priority_many(
    jobs: Iterable[JobRecord], priority: int, *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Change the priority of all of ``jobs`` that have not started.

    Jobs that already have it keep their position in the queue.

    Raises:
        ValueError: there is no such priority.
    """
    chosen = Priority(priority)

    actor = Actor(by, reason, address)

    def step(job: JobRecord) -> None:
        text = _("%(job)s has this priority already") % {"job": job}
        _relocate(job, None, chosen, actor, AuditAction.CHANGED_PRIORITY, unless_unchanged=text)

    return one_by_one(step, jobs)


def move_many(
    jobs: Iterable[JobRecord], queue: str, *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Move all of ``jobs`` that have not started to another queue.

    Jobs that are already in it keep their position.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` does not name the queue.
    """
    conf.usable_queue(queue)
    actor = Actor(by, reason, address)

    def step(job: JobRecord) -> None:
        _require_same_redis(job, queue)
        text = _("%(job)s is in queue %(queue)s already") % {"job": job, "queue": queue}
        _relocate(job, queue, None, actor, AuditAction.MOVED, unless_unchanged=text)

    return one_by_one(step, jobs)


# --- steps ----------------------------------------------------------------------------------------


def _lacks_entry(record: JobRecord, using: str, by_job: str) -> bool:
    """Return whether the running job has canceled a job, and died before its audit entry was there.

    Its canceled job may have ended in the row meanwhile.
    """
    if record.state != JobState.CANCELED or not by_job:
        return False
    entries = AuditEntry.objects.using(using).filter(
        target_type="job", target_id=str(record.pk), action=AuditAction.CANCELED
    )
    is_ours = with_redis(partial(control.was_canceled_by, record, by_job))
    return is_ours and not entries.exists()


def _retry_now(record: JobRecord, using: str, actor: Actor) -> None:
    """Run a delayed job now; the audit entry records a retry."""
    if record.is_foreign:
        raise InvalidOperation(why_not_retried(record))

    detail = {"name": record.name, "promoted": True}
    with transaction.atomic(using=using):
        actor.record(using, AuditAction.RETRIED, "job", record.pk, **detail)
        if not with_redis(partial(control.promote, record)):
            raise InvalidOperation(
                _("%(job)s cannot be retried: it is no longer delayed") % {"job": record}
            )


def _retry_delayed(record: JobRecord, using: str, actor: Actor) -> None:
    if record.state != JobState.DELAYED:
        raise InvalidOperation(why_not_retried(record))
    _retry_now(record, using, actor)


def _require_same_redis(job: JobRecord, queue: str) -> None:
    if not queues.share_redis(job.queue, queue):
        text = _(
            "%(queue)s is on another Redis than %(before)s: cancel the job and enqueue it there"
        )
        raise InvalidOperation(text % {"queue": queue, "before": job.queue})


def _relocate(
    job: JobRecord,
    to_queue: str | None,
    to_priority: Priority | None,
    actor: Actor,
    action: AuditAction,
    unless_unchanged: str = "",
) -> JobRecord:
    """Change the queue or the priority of a job, in its row and in Redis.

    Raises:
        InvalidOperation: the job has started or is final, or nothing would change and there is a
            text ``unless_unchanged``.
    """
    _require_ours(job)
    using = database_of(job)

    with transaction.atomic(using=using):
        record = JobRecord.objects.using(using).select_for_update().get(pk=job.pk)
        queue = record.queue if to_queue is None else to_queue
        priority = Priority(record.priority if to_priority is None else to_priority)
        before = record.priority if to_queue is None else record.queue
        detail = {"before": before, "queue": queue, "priority": int(priority)}
        if unless_unchanged and (queue, priority) == (record.queue, record.priority):
            raise InvalidOperation(unless_unchanged)

        JobRecord.objects.using(using).filter(pk=record.pk).update(
            queue=queue, priority=int(priority)
        )
        actor.record(using, action, "job", record.pk, **detail)

        has_ended = JobState(record.state).is_final  # then Redis may have forgotten it
        if has_ended or not with_redis(lambda: control.relocate(record, queue, priority)):
            raise InvalidOperation(
                _("%(job)s is %(state)s: only a job that has not started can be changed")
                % {"job": record, "state": record.get_state_display()}
            )

    record.queue, record.priority = queue, int(priority)
    return record


def _require_ours(job: JobRecord) -> None:
    if job.is_foreign:
        raise InvalidOperation(
            _("%(job)s was enqueued by plain RQ code: use RQ's own tools for this") % {"job": job}
        )
