"""The alarm: wakes the clock of `rqscheduler` when a schedule has changed, so that it need not poll to be exact."""

from __future__ import annotations

import logging

from . import conf, keys, redis

logger = logging.getLogger("wellos_jobs")


def ring() -> None:
    """Wake the clock. A Redis that is away does no harm: the clock looks by itself each second."""
    queues = conf.queues()
    first = "default" if "default" in queues else next(iter(queues))
    try:
        connection = redis.client(first)
        with connection.pipeline(transaction=False) as pipeline:
            pipeline.lpush(keys.ALARM, "1")
            pipeline.ltrim(keys.ALARM, 0, 0)
            pipeline.execute()
    except redis.Unavailable as error:
        logger.info("the clock was not woken, Redis is away: %s", error)


def wait(source: str, seconds: float) -> None:
    """Block until the alarm rings, at most that long. Raises redis-py's errors."""
    if seconds > 0:
        redis.source_client(source, "block").blpop([keys.ALARM], timeout=seconds)
