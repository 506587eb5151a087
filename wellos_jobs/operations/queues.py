"""Operator actions on queues, limits and circuit breakers, each with its audit entry."""

from __future__ import annotations

from typing import Any, Literal

from django.db import transaction
from django.utils.translation import gettext as _

from .. import conf
from ..broker import queues
from ..errors import InvalidOperation
from ..states import AuditAction
from .audit import Actor, audit_database, with_redis


def pause_queue(queue: str, *, by: Any = None, reason: str = "", address: str = "") -> None:
    """Stop workers from taking jobs from a queue until it is resumed; active jobs go on.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` does not name the queue.
        RedisUnavailable: Redis is unavailable; nothing is changed.
    """
    conf.queue(queue)
    using = audit_database()
    with transaction.atomic(using=using):
        actor = Actor(by, reason, address)
        actor.record(using, AuditAction.PAUSED, "queue", queue)
        with_redis(lambda: queues.pause(queue, note=actor.reason))


def resume_queue(queue: str, *, by: Any = None, reason: str = "", address: str = "") -> None:
    """Let workers take jobs from a paused queue again.

    Raises:
        InvalidOperation: the queue is not paused.
        UnknownQueue, RedisUnavailable: as ``pause_queue``.
    """
    conf.queue(queue)
    using = audit_database()
    with transaction.atomic(using=using):
        Actor(by, reason, address).record(using, AuditAction.RESUMED, "queue", queue)
        if not with_redis(lambda: queues.resume(queue)):
            raise InvalidOperation(_("Queue %(queue)s is not paused") % {"queue": queue})


def empty_queue(queue: str, *, by: Any = None, reason: str = "", address: str = "") -> int:
    """Cancel every waiting job of a queue; return how many. Delayed and active jobs stay.

    Raises:
        UnknownQueue, RedisUnavailable: as ``pause_queue``.
    """
    conf.queue(queue)
    using = audit_database()
    with transaction.atomic(using=using):
        count = with_redis(lambda: queues.empty(queue))
        Actor(by, reason, address).record(
            using, AuditAction.EMPTIED, "queue", queue, canceled=count
        )
    return count


def set_limit(
    limit: str, most: int | None, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Override the number of a limit for all workers; None restores what the jobs declare.

    ``limit`` is ``c:<key>`` for a ``Concurrency`` and ``r:<key>/<period in seconds>`` for a
    ``RateLimit``.

    Raises:
        ValueError: the name or the number is invalid.
        RedisUnavailable: Redis is unavailable; nothing is changed.
    """
    if not limit.startswith(("c:", "r:")):
        raise ValueError(
            f"{limit!r} is not the name of a limit: "
            "use c:<key> for a Concurrency or r:<key>/<seconds> for a RateLimit"
        )
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 0):
        raise ValueError(
            f"most is {most!r}: it must be a whole number, 0 to let nothing start, or None"
        )

    using = audit_database()
    with transaction.atomic(using=using):
        Actor(by, reason, address).record(using, AuditAction.SET_LIMIT, "limit", limit, most=most)
        with_redis(lambda: queues.set_limit(limit, most))


def reset_breaker(name: str, *, by: Any = None, reason: str = "", address: str = "") -> bool:
    """Close a circuit breaker, so that its jobs run; return whether it was open.

    Raises:
        RedisUnavailable: Redis is unavailable; nothing is changed.
    """
    return _switch(name, "close", AuditAction.RESET_BREAKER, Actor(by, reason, address))


def trip_breaker(name: str, *, by: Any = None, reason: str = "", address: str = "") -> bool:
    """Open a circuit breaker, so that its jobs wait until a reset; return whether it was closed.

    Raises:
        RedisUnavailable: Redis is unavailable; nothing is changed.
    """
    return _switch(name, "open", AuditAction.TRIPPED_BREAKER, Actor(by, reason, address))


def _switch(name: str, to: Literal["open", "close"], action: AuditAction, actor: Actor) -> bool:
    using = audit_database()
    with transaction.atomic(using=using):
        actor.record(using, action, "breaker", name)
        return with_redis(lambda: queues.switch_breaker(name, to))
