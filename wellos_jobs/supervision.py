"""What supervisor and housekeeping share: telling the world what became of a rescued job."""

from __future__ import annotations

from datetime import UTC, datetime

from . import signals
from .claims import Rescued
from .states import EventName

_EVENTS = {"waiting": EventName.RESCUED, "failed": EventName.FAILED, "canceled": EventName.CANCELED}


def announce_rescue(job: Rescued, message: str) -> None:
    """Log and signal what became of a job whose claim was ended from outside."""
    event = _EVENTS.get(job.ending)
    if event is not None:
        signals.announce(
            event,
            job_id=job.id,
            name=job.name or "(foreign)",
            queue=job.queue,
            attempt=job.attempt,
            at=datetime.now(UTC),
            note=message,
        )
