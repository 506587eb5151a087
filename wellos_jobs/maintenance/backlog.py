"""Queue build-up: say once that a queue holds too much or its oldest job waits too long, and once that it is over.

What has been said is remembered in Redis, so that a new leader does not say it again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis as redis_py

from .. import conf, signals
from ..broker import keys, queues
from ..broker.queues import Counts
from .alerts import tell_admins

logger = logging.getLogger("wellos_jobs")


def watch(connection: redis_py.Redis, names: Sequence[str]) -> None:
    """Compare the queues with ``BACKLOG_ALERTS``; log, mail and signal what has changed."""
    limits = conf.current().backlog_alerts
    if limits is None:
        return
    for name, counts in queues.all_counts(names).items():
        built_up = (
            counts.waiting > limits["waiting"]
            or (counts.oldest_wait or 0.0) > limits["oldest_wait"]
        )
        if built_up and connection.hsetnx(keys.BACKLOG, name, str(counts.waiting)):
            _say(name, counts, over=False)
        elif not built_up and connection.hdel(keys.BACKLOG, name):
            _say(name, counts, over=True)


def _say(queue: str, counts: Counts, *, over: bool) -> None:
    oldest = counts.oldest_wait or 0.0
    state = "is short again" if over else "builds up"
    text = f"Queue {queue} {state}: {counts.waiting} jobs wait, the oldest for {oldest:.0f} s"
    extra = {"queue": queue, "waiting": counts.waiting, "oldest_wait": oldest, "over": over}
    logger.log(logging.INFO if over else logging.WARNING, text, extra=extra)
    if conf.current().notify_admins:
        tell_admins(f"Queue {queue} {state}", text)
    signals.send(
        signals.queue_backlog,
        queue=queue,
        waiting=counts.waiting,
        oldest_wait=counts.oldest_wait,
        over=over,
    )
