"""Whether the name that an ``rqworker`` was given is free: only one living worker may bear it."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from .. import broker, conf
from ..broker import rq_workers
from ..broker.rq_workers import Holder

logger = logging.getLogger("wellos_jobs")

LOOK_EVERY = 0.25


def living_holder(source: str, name: str, processes: int) -> Holder | None:
    """Return the living worker that bears the name; None if it is free.

    A worker that was killed leaves its key behind. This waits for a heartbeat of its supervisor, at
    most until its lease has run out. Raises redis-py's errors.
    """
    connection = broker.source_client(source, "call")
    first = found = rq_workers.holder(connection, name, numbered=processes > 1)
    if first is None:
        return None

    seconds = conf.current().lease - (first.silent or 0.0)
    deadline = time.monotonic() + seconds
    if seconds > 0:
        logger.warning(
            "worker %s of pid %s on %s is registered: this one starts if it sends no heartbeat"
            " until %s",
            first.worker,
            first.pid,
            first.host,
            (datetime.now().astimezone() + timedelta(seconds=seconds)).strftime("%H:%M:%S"),
        )

    while found is not None and time.monotonic() < deadline:
        if found.beat != first.beat:
            return found
        time.sleep(LOOK_EVERY)
        found = rq_workers.holder(connection, name, numbered=processes > 1)
    return None
