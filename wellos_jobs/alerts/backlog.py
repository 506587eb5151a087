"""Backlog alerts: log, mail and signal once when a queue exceeds its limits, and once it recovers.

Open alerts are stored in Redis, so that a new leader does not repeat them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from smtplib import SMTPException

from django.core.mail import mail_admins

from .. import broker, conf, signals
from ..broker import keys, queues
from ..broker.queues import QueueCounts

logger = logging.getLogger("wellos_jobs")


def watch(connection: broker.Client, names: Sequence[str]) -> None:
    """Compare the queues with ``BACKLOG_ALERTS``; report those whose state has changed."""
    limits = conf.current().backlog_alerts
    if limits is None:
        return

    for name, counts in queues.all_counts(names).items():
        above = (
            counts.waiting > limits["waiting"]
            or (counts.oldest_wait or 0.0) > limits["oldest_wait"]
        )
        if above and connection.hsetnx(keys.BACKLOG, name, str(counts.waiting)):
            _report(name, counts, cleared=False)
        elif not above and connection.hdel(keys.BACKLOG, name):
            _report(name, counts, cleared=True)


def alert_admins(subject: str, text: str) -> None:
    """Email ADMINS; a failing mail server is logged, not raised."""
    try:
        mail_admins(subject, text)
    except (SMTPException, OSError) as error:
        logger.error("mail %r to ADMINS failed: %s", subject, error)


def _report(queue: str, counts: QueueCounts, *, cleared: bool) -> None:
    oldest = counts.oldest_wait or 0.0
    title = f"Queue {queue}: {'backlog cleared' if cleared else 'backlog'}"
    text = f"{title}, {counts.waiting} jobs waiting, the oldest for {oldest:.0f} s"

    extra = {"queue": queue, "waiting": counts.waiting, "oldest_wait": oldest, "cleared": cleared}
    logger.log(logging.INFO if cleared else logging.WARNING, text, extra=extra)
    if conf.current().notify_admins:
        alert_admins(title, text)
    signals.send(
        signals.queue_backlog,
        queue=queue,
        waiting=counts.waiting,
        oldest_wait=counts.oldest_wait,
        cleared=cleared,
    )
