"""Workers as RQ knows them: their hashes, and the sets that `rq info` and django-rq read."""

from __future__ import annotations

import platform
import socket
from collections.abc import Sequence
from typing import Any

import redis as redis_py
from rq.version import VERSION

from . import keys
from .connection import redis_time, rq_time, run, text


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


def is_alive(connection: redis_py.Redis, name: str) -> bool:
    """Return whether a worker of this name is registered and not dead."""
    key = keys.worker(name)
    return bool(connection.hexists(key, "birth")) and not connection.hexists(key, "death")


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
