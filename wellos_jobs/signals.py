"""Django signals for every transition of a job.

All carry ``job_id`` (text), ``name``, ``queue``, ``attempt`` and ``at`` (aware datetime), and are
sent with ``send_robust``: exceptions of receivers are logged and have no other effect.

``job_enqueued`` is sent by the process that pushes the job, the others by the worker, or the
process that rescued the job, after Redis has stored the transition. A blocked job that ends because
another one failed, or its batch did, never comes to Redis: ``job_canceled`` or ``job_failed`` is
sent after the commit of its end, mostly by the ledger. ``dead_letter_created`` (``dead_letter``) is
sent after the commit of the dead letter, by the same, ``queue_backlog`` (``queue``, ``waiting``,
``oldest_wait``, ``cleared``) by the maintenance process when a backlog builds up (``cleared`` is
false), and again when it has cleared.

Receivers in the worker delay its next job. Receivers of ``job_started`` may take up to the job's
timeout, which starts anew after them; receivers of the end of a run 30 s. A worker whose receivers
take longer is killed as hung.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.dispatch import Signal

from .states import EventName

logger = logging.getLogger("wellos_jobs")

job_enqueued = Signal()
job_started = Signal()
job_progressed = Signal()
job_completed = Signal()
job_retried = Signal()
job_snoozed = Signal()
job_failed = Signal()
job_replayed = Signal()
job_canceled = Signal()
job_rescued = Signal()
dead_letter_created = Signal()
queue_backlog = Signal()

BY_EVENT: dict[EventName, Signal] = {
    EventName.ENQUEUED: job_enqueued,
    EventName.STARTED: job_started,
    EventName.PROGRESSED: job_progressed,
    EventName.COMPLETED: job_completed,
    EventName.RETRIED: job_retried,
    EventName.SNOOZED: job_snoozed,
    EventName.FAILED: job_failed,
    EventName.REPLAYED: job_replayed,
    EventName.CANCELED: job_canceled,
    EventName.RESCUED: job_rescued,
}

LEVELS: dict[EventName, int] = {
    EventName.ENQUEUED: logging.DEBUG,
    EventName.STARTED: logging.INFO,
    EventName.PROGRESSED: logging.DEBUG,
    EventName.COMPLETED: logging.INFO,
    EventName.RETRIED: logging.WARNING,
    EventName.SNOOZED: logging.INFO,
    EventName.FAILED: logging.ERROR,
    EventName.REPLAYED: logging.INFO,
    EventName.CANCELED: logging.INFO,
    EventName.RESCUED: logging.WARNING,
}


def announce(
    event: EventName,
    *,
    job_id: str,
    name: str,
    queue: str,
    attempt: int,
    at: datetime,
    note: str = "",
) -> None:
    """Log a transition and send its signal."""
    level = LEVELS[event]
    if logger.isEnabledFor(level):
        extra = {
            "job_id": job_id,
            "job_name": name,
            "queue": queue,
            "attempt": attempt,
            "event": event.value,
        }
        logger.log(
            level,
            "%s %s job=%s queue=%s attempt=%d%s",
            event.value,
            name,
            job_id,
            queue,
            attempt,
            f" {note}" if note else "",
            extra=extra,
        )

    signal = BY_EVENT[event]
    if signal.receivers:
        send(signal, job_id=job_id, name=name, queue=queue, attempt=attempt, at=at)


def send(signal: Signal, **arguments: Any) -> None:
    """Send a signal; Django logs exceptions of its receivers (logger ``django.dispatch``)."""
    signal.send_robust(sender=None, **arguments)
