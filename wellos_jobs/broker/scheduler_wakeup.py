"""Wake the scheduler when a schedule has changed, so that it is exact without polling."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from . import keys
from .connection import Unavailable, briefly, source_client, sources

if TYPE_CHECKING:
    from redis.client import Pipeline

logger = logging.getLogger("wellos_jobs")

COARSE = 0.15
"""Seconds. Redis ends a blocking call up to 0.1 s late, so the last part is slept instead."""


def wake() -> None:
    """Wake the schedulers of all Redis servers, except unavailable ones: schedulers also poll."""
    for source in sources():
        try:
            with briefly(source) as connection, connection.pipeline() as pipeline:
                wake_within(pipeline)
                pipeline.execute()
        except Unavailable as error:
            logger.info(
                "the scheduler of %s was not woken, Redis is unavailable: %s", source, error
            )


def wake_within(pipeline: Pipeline) -> None:
    """Wake the scheduler of one Redis, as part of a pipeline."""
    pipeline.lpush(keys.WAKEUP, "1")
    pipeline.ltrim(keys.WAKEUP, 0, 0)


def wait(source: str, seconds: float) -> None:
    """Block until woken, at most for ``seconds``, exact to the millisecond.

    Raises redis-py's errors.
    """
    deadline = time.monotonic() + seconds
    if seconds > COARSE:
        connection = source_client(source, "block")
        if connection.blpop([keys.WAKEUP], timeout=seconds - COARSE):
            return
    time.sleep(max(0.0, deadline - time.monotonic()))
