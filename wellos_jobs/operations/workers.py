"""Operator actions on workers and supervisors, each with its audit entry."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from django.db import transaction
from django.utils.translation import gettext as _

from .. import broker
from ..broker import rq_commands
from ..errors import InvalidOperation
from ..monitoring import workers as live_workers
from ..monitoring.workers import WorkerLine
from ..states import AuditAction
from .audit import Actor, audit_database, with_redis

Kind = Literal["worker", "supervisor"]


def quiet_workers(
    kind: Kind, name: str, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Stop a worker, or all workers of a supervisor (by its token), from taking jobs.

    Active jobs go on. It lasts until ``resume_workers``, and ends with the process. A quiet
    supervisor does not replace workers that exit.

    Raises:
        InvalidOperation: Redis does not know it.
        RedisUnavailable: Redis is unavailable; nothing is changed.
    """
    _set_quiet(kind, name, True, Actor(by, reason, address))


def resume_workers(
    kind: Kind, name: str, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Let a quiet worker, or all workers of a supervisor, take jobs again.

    Raises:
        InvalidOperation, RedisUnavailable: as ``quiet_workers``.
    """
    _set_quiet(kind, name, False, Actor(by, reason, address))


def stop_workers(
    kind: Kind, name: str, *, by: Any = None, reason: str = "", address: str = ""
) -> int:
    """Stop a worker, or all workers of a supervisor, after their active jobs; return how many.

    A supervisor exits with the last of its workers. Its process manager, such as systemd, may
    restart it.

    Raises:
        InvalidOperation: Redis does not know it, or the supervisor has no worker.
        RedisUnavailable: Redis is unavailable; nothing is changed.
    """
    workers = with_redis(lambda: _workers(kind, name))
    actor = Actor(by, reason, address)
    using = audit_database()

    with transaction.atomic(using=using):
        names = [worker.name for worker in workers]
        actor.record(using, AuditAction.STOPPED, kind, name, workers=names)
        for worker in workers:
            with_redis(partial(rq_commands.shutdown, worker.source, worker.name))
    return len(workers)


def _set_quiet(kind: Kind, name: str, is_quiet: bool, actor: Actor) -> None:
    action = AuditAction.QUIETED if is_quiet else AuditAction.RESUMED
    using = audit_database()
    with transaction.atomic(using=using):
        actor.record(using, action, kind, name)
        if not with_redis(lambda: _set_quiet_everywhere(kind, name, is_quiet)):
            raise InvalidOperation(_unknown(kind, name))


def _set_quiet_everywhere(kind: Kind, name: str, is_quiet: bool) -> int:
    """Set the flag on every Redis; return how many know the process."""
    flag = "1" if is_quiet else ""
    return sum(
        int(broker.run(broker.source_client(source, "call"), "quiet", kind, name, flag))
        for source in broker.sources()
    )


def _workers(kind: Kind, name: str) -> Sequence[WorkerLine]:
    found = live_workers.workforce()
    if kind == "worker":
        chosen = [worker for worker in found.workers if worker.name == name]
    else:
        chosen = [
            worker for line in found.supervisors if line.token == name for worker in line.workers
        ]

    if not chosen:
        problem = "; ".join(found.problems)
        raise InvalidOperation(problem or _unknown(kind, name))
    return chosen


def _unknown(kind: Kind, name: str) -> str:
    if kind == "worker":
        return _("Worker %(name)s no longer exists") % {"name": name}
    return _("This supervisor no longer has workers")
