"""A worker as RQ knows it: its hash and its place in the sets that `rq info` and django-rq read."""

from __future__ import annotations

import platform
import socket
from collections.abc import Sequence
from typing import Any

import redis as redis_py
from rq.version import VERSION

from . import keys
from .connection import redis_time, rq_time, text


def birth(
    connection: redis_py.Redis,
    name: str,
    queues: Sequence[str],
    pid: int,
    ttl: int,
    supervisor: str = "",
) -> None:
    """Make a worker known. ``ttl`` in seconds; the supervisor, whose token is given, renews it."""
    key = keys.worker(name)
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
    with connection.pipeline() as pipeline:
        pipeline.hdel(key, "death")
        pipeline.hset(key, mapping=facts)
        pipeline.expire(key, ttl)
        pipeline.sadd(keys.WORKERS, key)
        for queue in queues:
            pipeline.sadd(keys.workers_of(queue), key)
        pipeline.execute()


def death(connection: redis_py.Redis, name: str, queues: Sequence[str]) -> None:
    """Take a worker out of RQ's sets."""
    key = keys.worker(name)
    with connection.pipeline() as pipeline:
        pipeline.srem(keys.WORKERS, key)
        for queue in queues:
            pipeline.srem(keys.workers_of(queue), key)
        pipeline.delete(key, f"{key}:executions")
        pipeline.execute()


def is_alive(connection: redis_py.Redis, name: str) -> bool:
    """Tell whether a worker of this name is registered and not dead."""
    return bool(connection.hexists(keys.worker(name), "birth")) and not connection.hexists(
        keys.worker(name), "death"
    )


def sweep(connection: redis_py.Redis, queues: Sequence[str]) -> None:
    """Take out of RQ's sets the workers whose hash has expired, and out of its registries what is dead there."""
    for queue in queues:
        _sweep_runs(connection, queue)
    now = redis_time(connection)
    gone = [key for key in connection.smembers(keys.WORKERS) if not connection.exists(key)]
    with connection.pipeline() as pipeline:
        for key in gone:
            pipeline.srem(keys.WORKERS, key)
            for queue in queues:
                pipeline.srem(keys.workers_of(queue), key)
        for queue in queues:
            for registry in (
                keys.finished(queue),
                keys.failed(queue),
            ):  # the tick looks after cancelled ones
                pipeline.zremrangebyscore(registry, "-inf", now)
        pipeline.execute()


def _sweep_runs(connection: redis_py.Redis, queue: str) -> None:
    """Take out the runs of jobs that foreign code deleted and whose worker then died: nobody ends those."""
    members: Any = connection.zrange(keys.wip(queue), 0, -1)
    for run in map(text, members):
        if not connection.exists(keys.job(run.rpartition(":")[0])):
            with connection.pipeline() as pipeline:
                pipeline.zrem(keys.wip(queue), run)
                pipeline.delete(keys.execution(run))
                pipeline.execute()
