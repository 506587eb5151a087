"""Acts of a person on queues, on where a job waits, on limits and on circuit breakers, each with its ``AuditEntry``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import router, transaction
from django.utils.translation import gettext as _

from .. import conf
from ..broker import queues
from ..enqueueing import control
from ..enqueueing.handle import JobHandle
from ..errors import InvalidOperation
from ..models import AuditEntry, JobRecord
from ..states import JobState, Priority
from .audit import Act, Report, database_of, one_by_one, record_of, with_redis


def pause_queue(queue: str, *, by: Any = None, reason: str = "", address: str = "") -> None:
    """Let no worker take jobs from a queue until it is resumed; what runs, runs on.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` does not name the queue.
        RedisUnavailable: Redis is away; nothing is changed.
    """
    conf.queue(queue)
    with transaction.atomic(using=_audit_database()):
        _note(Act(by, reason, address).entry("paused", "queue", queue))
        with_redis(lambda: queues.pause(queue, note=reason))


def resume_queue(queue: str, *, by: Any = None, reason: str = "", address: str = "") -> None:
    """Let workers take jobs from a queue again.

    Raises:
        InvalidOperation: the queue is not paused.
        UnknownQueue, RedisUnavailable: as ``pause_queue``.
    """
    conf.queue(queue)
    with transaction.atomic(using=_audit_database()):
        _note(Act(by, reason, address).entry("resumed", "queue", queue))
        if not with_redis(lambda: queues.resume(queue)):
            raise InvalidOperation(_("Queue %(queue)s is not paused") % {"queue": queue})


def empty_queue(queue: str, *, by: Any = None, reason: str = "", address: str = "") -> int:
    """Cancel every waiting job of a queue; return how many there were. Delayed and active jobs stay.

    Raises:
        UnknownQueue, RedisUnavailable: as ``pause_queue``.
    """
    conf.queue(queue)
    with transaction.atomic(using=_audit_database()):
        count = with_redis(lambda: queues.empty(queue))
        _note(Act(by, reason, address).entry("emptied", "queue", queue, canceled=count))
    return count


def promote(
    job: JobRecord | JobHandle, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Let a delayed job run now.

    Raises:
        InvalidOperation: the job is not delayed, or plain RQ code made it.
        RedisUnavailable: Redis is away; nothing is changed.
    """
    record = record_of(job)
    _require_ours(record)
    with transaction.atomic(using=database_of(record)):
        _note(Act(by, reason, address).entry("promoted", "job", record.pk), database_of(record))
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
    """Give a job that has not started another priority.

    Raises:
        InvalidOperation: it has started or is final, or plain RQ code made it.
        ValueError: there is no such priority.
        RedisUnavailable: Redis is away; nothing is changed.
    """
    record, act = record_of(job), Act(by, reason, address)
    return _relocate(
        record, record.queue, Priority(priority), act, "changed priority", before=record.priority
    )


def move(
    job: JobRecord | JobHandle, queue: str, *, by: Any = None, reason: str = "", address: str = ""
) -> JobRecord:
    """Give a job that has not started another queue on the same Redis.

    Raises:
        InvalidOperation: it has started or is final, plain RQ code made it, or the queue lives on
            another Redis.
        UnknownQueue: ``RQ_QUEUES`` does not name the queue.
        RedisUnavailable: Redis is away; nothing is changed.
    """
    record = record_of(job)
    if not queues.share_redis(record.queue, queue):
        raise InvalidOperation(
            _(
                "%(queue)s lives on another Redis than %(before)s: cancel the job and enqueue it there"
            )
            % {"queue": queue, "before": record.queue}
        )
    act = Act(by, reason, address)
    return _relocate(record, queue, Priority(record.priority), act, "moved", before=record.queue)


def promote_many(
    jobs: Iterable[JobRecord], *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Let all of ``jobs`` that are delayed run now."""
    return one_by_one(promote, jobs, by=by, reason=reason, address=address)


def change_priority_many(
    jobs: Iterable[JobRecord], priority: int, *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Give all of ``jobs`` that have not started another priority; those that have it keep their place in line.

    Raises:
        ValueError: there is no such priority.
    """
    chosen = Priority(priority)

    def step(job: JobRecord, **act: Any) -> None:
        if job.priority == chosen:
            raise InvalidOperation(_("%(job)s has this priority already") % {"job": job})
        change_priority(job, chosen, **act)

    return one_by_one(step, jobs, by=by, reason=reason, address=address)


def move_many(
    jobs: Iterable[JobRecord], queue: str, *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Give all of ``jobs`` that have not started another queue; those that are in it keep their place in line.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` does not name the queue.
    """
    conf.queue(queue)

    def step(job: JobRecord, **act: Any) -> None:
        if job.queue == queue:
            raise InvalidOperation(
                _("%(job)s is in queue %(queue)s already") % {"job": job, "queue": queue}
            )
        move(job, queue, **act)

    return one_by_one(step, jobs, by=by, reason=reason, address=address)


def set_limit(
    limit: str, most: int | None, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Set the number of a limit in force for all workers; None goes back to what the jobs say.

    ``limit`` is ``c:<key>`` for a ``Concurrency`` and ``r:<key>/<period in seconds>`` for a
    ``RateLimit``.

    Raises:
        ValueError: the name or the number cannot be meant.
        RedisUnavailable: Redis is away; nothing is changed.
    """
    if not limit.startswith(("c:", "r:")):
        raise ValueError(
            f"{limit!r} is no limit: write c:<key> for a Concurrency or r:<key>/<seconds> for a RateLimit"
        )
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 0):
        raise ValueError(
            f"most is {most!r}: it must be a whole number, 0 to let nothing start, or None"
        )
    with transaction.atomic(using=_audit_database()):
        _note(Act(by, reason, address).entry("set limit", "limit", limit, most=most))
        with_redis(lambda: queues.set_limit(limit, most))


def reset_breaker(name: str, *, by: Any = None, reason: str = "", address: str = "") -> bool:
    """Close a circuit breaker by hand; its jobs run. Tells whether it was open.

    Raises:
        RedisUnavailable: Redis is away; nothing is changed.
    """
    return _switch(name, "close", Act(by, reason, address))


def trip_breaker(name: str, *, by: Any = None, reason: str = "", address: str = "") -> bool:
    """Open a circuit breaker by hand: its jobs wait until it is reset.

    Raises:
        RedisUnavailable: Redis is away; nothing is changed.
    """
    return _switch(name, "open", Act(by, reason, address))


def _switch(name: str, to: str, act: Act) -> bool:
    with transaction.atomic(using=_audit_database()):
        _note(act.entry("reset breaker" if to == "close" else "tripped breaker", "breaker", name))
        return with_redis(lambda: queues.switch_breaker(name, to))


def _relocate(
    job: JobRecord, queue: str, priority: Priority, act: Act, action: str, before: object
) -> JobRecord:
    _require_ours(job)
    using = database_of(job)
    with transaction.atomic(using=using):
        record = JobRecord.objects.using(using).select_for_update().get(pk=job.pk)
        JobRecord.objects.using(using).filter(pk=record.pk).update(
            queue=queue, priority=int(priority)
        )
        _note(
            act.entry(action, "job", record.pk, before=before, queue=queue, priority=int(priority)),
            using,
        )
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
            _("%(job)s was enqueued by plain RQ code: that has to be done there") % {"job": job}
        )


def _note(entry: AuditEntry, using: str | None = None) -> None:
    entry.save(force_insert=True, using=using or _audit_database())


def _audit_database() -> str:
    return str(router.db_for_write(AuditEntry))
