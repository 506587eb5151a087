"""The alarm: wakes the clock of `rqscheduler` when a schedule has changed, so that it need not poll to be exact."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from . import keys
from .connection import Unavailable, source_client, sources

if TYPE_CHECKING:
    from redis.client import Pipeline

logger = logging.getLogger("wellos_jobs")

COARSE = 0.15
"""Redis ends a blocking call up to a tenth of a second late: this long before the time, the clock sleeps by itself."""


def ring() -> None:
    """Wake the clocks of every Redis. One that is away does no harm: the clock looks by itself each second."""
    for source in sources():
        try:
            with source_client(source, "call").pipeline() as pipeline:
                ring_within(pipeline)
                pipeline.execute()
        except Unavailable as error:
            logger.info("the clock of %s was not woken, Redis is away: %s", source, error)


def ring_within(pipeline: Pipeline) -> None:
    """Wake the clock of one Redis, as part of a caller's pipeline."""
    pipeline.lpush(keys.ALARM, "1")
    pipeline.ltrim(keys.ALARM, 0, 0)


def wait(source: str, seconds: float) -> None:
    """Block until the alarm rings, at most that long, to the millisecond. Raises redis-py's errors."""
    deadline = time.monotonic() + seconds
    if seconds > COARSE and source_client(source, "block").blpop(
        [keys.ALARM], timeout=seconds - COARSE
    ):
        return
    time.sleep(max(0.0, deadline - time.monotonic()))
