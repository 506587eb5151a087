"""What workers with this code know, as they register it; and what none knows for too long."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import redis as redis_py

from .. import broker, conf, signals
from ..broker import claims, keys
from ..definitions import registry
from ..states import EventName

SET_TTL = 3600
"""Seconds until Redis forgets a queue set without workers."""


def queue_set_of(queues: Sequence[str]) -> str:
    """Return the id of the queue set of workers with the code of this process."""
    return keys.set_id(queues, registry.digest())


def register(connection: redis_py.Redis, queue_set: str, queues: Sequence[str]) -> None:
    """Make a queue set known, and which jobs its workers know. Raises redis-py's errors."""
    jobs = [part for pair in registry.versions().items() for part in pair]
    broker.run(connection, "register", queue_set, SET_TTL, len(queues), *queues, *jobs)


def bury(connection: redis_py.Redis, queues: Sequence[str]) -> None:
    """End the jobs that have waited for code longer than ``UNKNOWN_JOB_WAIT``.

    Raises redis-py's errors.
    """
    for job in claims.bury(connection, queues, conf.current().unknown_job_wait):
        signals.announce(
            EventName.FAILED,
            job_id=job.id,
            name=job.name,
            queue=job.queue,
            attempt=job.attempt,
            at=datetime.now(UTC),
            note=f"no worker knows its code: {job.message}",
        )
