"""Acts of a person on workers and their supervisors, each with its ``AuditEntry``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from django.db import router, transaction
from django.utils.translation import gettext as _

from .. import broker
from ..broker import rq_commands
from ..errors import InvalidOperation
from ..models import AuditEntry
from ..monitoring import workers as live_workers
from .audit import Act, with_redis

Kind = Literal["worker", "supervisor"]


def quiet(kind: Kind, name: str, *, by: Any = None, reason: str = "", address: str = "") -> None:
    """Let a worker, or all workers of a supervisor (by its token), take no more jobs; what runs, runs on.

    It lasts until ``resume``, and ends with the process. A quiet supervisor replaces no worker that
    ends.

    Raises:
        InvalidOperation: Redis does not know it.
        RedisUnavailable: Redis is away; nothing is changed.
    """
    _tell(kind, name, "1", Act(by, reason, address))


def resume(kind: Kind, name: str, *, by: Any = None, reason: str = "", address: str = "") -> None:
    """Let a worker, or all workers of a supervisor, take jobs again.

    Raises:
        InvalidOperation, RedisUnavailable: as ``quiet``.
    """
    _tell(kind, name, "", Act(by, reason, address))


def stop(kind: Kind, name: str, *, by: Any = None, reason: str = "", address: str = "") -> int:
    """Let a worker, or all workers of a supervisor, end after the job they are in; return how many were told.

    A supervisor ends with the last of its workers. Whatever started it, such as systemd, may start
    it again.

    Raises:
        InvalidOperation: Redis does not know it, or the supervisor has no worker.
        RedisUnavailable: Redis is away; nothing is changed.
    """
    workers = with_redis(lambda: _workers(kind, name))
    with transaction.atomic(using=_audit_database()):
        detail = {"workers": [worker.name for worker in workers]}
        Act(by, reason, address).entry("stopped", kind, name, **detail).save(
            using=_audit_database()
        )
        for worker in workers:
            with_redis(_shutdown(worker))
    return len(workers)


def _tell(kind: Kind, name: str, flag: str, act: Act) -> None:
    with transaction.atomic(using=_audit_database()):
        act.entry("quieted" if flag else "resumed", kind, name).save(using=_audit_database())
        told = with_redis(
            lambda: sum(_tell_on(source, kind, name, flag) for source in broker.sources())
        )
        if not told:
            raise InvalidOperation(_unknown(kind, name))


def _tell_on(source: str, kind: Kind, name: str, flag: str) -> int:
    return int(broker.run(broker.source_client(source, "call"), "quiet", kind, name, flag))


def _workers(kind: Kind, name: str) -> list[live_workers.WorkerLine]:
    found = live_workers.look()
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


def _shutdown(worker: live_workers.WorkerLine) -> Callable[[], None]:
    return lambda: rq_commands.shutdown(worker.source, worker.name)


def _unknown(kind: Kind, name: str) -> str:
    if kind == "worker":
        return _("There is no worker %(name)s any more") % {"name": name}
    return _("This supervisor has no workers any more")


def _audit_database() -> str:
    return str(router.db_for_write(AuditEntry))
