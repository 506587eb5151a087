"""Workers as RQ knows them: their hashes, and the sets that `rq info` and django-rq read."""

from __future__ import annotations

import json
import platform
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis as redis_py
from rq.version import VERSION

from . import keys
from .connection import Client, redis_time, rq_time, run, text


def birth(
    connection: redis_py.Redis,
    name: str,
    queues: Sequence[str],
    pid: int,
    ttl: int,
    supervisor: str = "",
) -> None:
    """Register a worker for ``ttl`` seconds. The supervisor with this token renews it."""
    now = rq_time()
    facts: Any = {
        "birth": now,
        "last_heartbeat": now,
        "queues": ",".join(queues),
        "pid": str(pid),
        "hostname": socket.gethostname(),
        "ip_address": "unknown",
        "version": VERSION,
        "python_version": platform.python_version(),
        "state": "idle",
        "w:supervisor": supervisor,
    }

    fields = [part for pair in facts.items() for part in pair]
    run(connection, "birth", name, ttl, len(queues), *queues, *fields)


def death(connection: redis_py.Redis, name: str, queues: Sequence[str]) -> None:
    """Remove a worker."""
    key = keys.worker(name)
    with connection.pipeline(transaction=False) as pipeline:  # a full Redis refuses MULTI
        pipeline.srem(keys.WORKERS, key)
        for queue in queues:
            pipeline.srem(keys.workers_of(queue), key)
        pipeline.delete(key, f"{key}:executions")
        pipeline.execute()


@dataclass(frozen=True, slots=True)
class Holder:
    """A registered worker.

    ``beat`` is the time of its supervisor's last heartbeat, as text; ``silent`` the seconds since
    then on the Redis clock, None if it has sent none.
    """

    worker: str
    host: str
    pid: str
    beat: str
    silent: float | None


def holder(connection: redis_py.Redis, name: str, *, numbered: bool) -> Holder | None:
    """Return the worker of this name, alive or dead, or the last heard of ``<name>-<number>``."""
    wanted = re.compile(re.escape(name) + (r"-\d+" if numbered else ""))
    known = [text(key).removeprefix(keys.worker("")) for key in connection.smembers(keys.WORKERS)]
    found = [_holder(connection, worker) for worker in known if wanted.fullmatch(worker)]
    return max((one for one in found if one), key=lambda one: one.beat, default=None)


def _holder(connection: redis_py.Redis, worker: str) -> Holder | None:
    fields = ("birth", "death", "w:supervisor", "hostname", "pid")
    birth, death, *facts = connection.hmget(keys.worker(worker), fields)
    if birth is None or death is not None:
        return None

    supervisor, host, pid = map(text, facts)
    beat = text(connection.hget(keys.supervisor(supervisor), "beat"))
    silent = redis_time(connection) - float(beat) if beat else None
    return Holder(worker, host, pid, beat, silent)


def queue_sets_of(connection: Client, queue: str) -> list[str]:
    """Return the queue set of each worker of a queue, of those whose supervisor lives.

    Three round trips. Raises redis-py's errors.
    """
    names: Any = connection.smembers(keys.workers_of(queue))
    with connection.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hget(name, "w:supervisor")
        tokens = map(text, pipeline.execute())
        for token in tokens:
            pipeline.hget(keys.supervisor(token), "facts")
        facts = [json.loads(found) for found in pipeline.execute() if found]
    return [str(found.get("set", "")) for found in facts]


def sweep(connection: redis_py.Redis, queues: Sequence[str]) -> None:
    """Remove workers whose hash has expired from RQ's sets, and old jobs from its registries."""
    for queue in queues:
        _sweep_runs(connection, queue)

    now = redis_time(connection)
    gone = [key for key in connection.smembers(keys.WORKERS) if not connection.exists(key)]
    with connection.pipeline(transaction=False) as pipeline:
        for key in gone:
            pipeline.srem(keys.WORKERS, key)
            for queue in queues:
                pipeline.srem(keys.workers_of(queue), key)
        for queue in queues:
            # The script "supervise" cleans the registry of canceled jobs.
            pipeline.zremrangebyscore(keys.finished(queue), "-inf", now)
            pipeline.zremrangebyscore(keys.failed(queue), "-inf", now)
        pipeline.execute()


def _sweep_runs(connection: redis_py.Redis, queue: str) -> None:
    """Remove the runs of jobs that were deleted through RQ and whose worker then died."""
    members: Any = connection.zrange(keys.wip(queue), 0, -1)
    for member in map(text, members):
        if not connection.exists(keys.job(member.rpartition(":")[0])):
            with connection.pipeline(transaction=False) as pipeline:
                pipeline.zrem(keys.wip(queue), member)
                pipeline.delete(keys.execution(member))
                pipeline.execute()
