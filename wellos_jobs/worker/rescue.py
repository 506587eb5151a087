"""Rescue the jobs of dead workers; log and signal the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import redis as redis_py
from django.db import connections

from .. import signals
from ..broker import claims, rq_workers
from ..broker.claims import Rescued, RescueReason
from ..processes.child import Child
from ..states import EventName

_EVENTS = {"waiting": EventName.RESCUED, "failed": EventName.FAILED, "canceled": EventName.CANCELED}
_REASONS = {
    "crashed": "worker {name} died ({how})",
    "timeout": "worker {name} was killed: the run did not end at its timeout",
    "canceled": "worker {name} was killed: the run did not end when the job was canceled",
    "handed_back": "worker {name} ended before the job did ({how})",
}


class RescueQueue:
    """The dead workers of one supervisor whose jobs are not rescued yet."""

    def __init__(self, connection: redis_py.Redis, queues: Sequence[str]) -> None:
        self._connection = connection
        self._queues = queues
        self._open: list[tuple[Child, RescueReason, str, str]] = []

    def __len__(self) -> int:
        return len(self._open)

    def add(self, child: Child, *, clean: bool, how: str) -> None:
        """Add a worker that has ended. ``clean``: it ended by itself; ``how``: its exit status."""
        for why, job_id in child.rescues(clean):
            message = _REASONS[why].format(name=child.name, how=how)
            self._open.append((child, cast("RescueReason", why), message, job_id))

    def carry_out(self) -> None:
        """Rescue the jobs. What Redis does not answer stays queued. Raises redis-py's errors."""
        while self._open:
            child, why, message, job_id = self._open[0]
            rescued = claims.rescue(
                self._connection, why, message, worker=child.name, job_id=job_id
            )
            if not job_id:  # the last rescue of this child: its key may go
                rq_workers.death(self._connection, child.name, self._queues)
            self._open.pop(0)
            _announce(rescued, message)

    def reap(self) -> None:
        """End the claims whose lease has run out: their machine is dead. Only for the leader."""
        message = "its worker stopped renewing the lease"
        _announce(claims.rescue(self._connection, "crashed", message), message)


def announce_rescue(job: Rescued, message: str) -> None:
    """Log and signal the outcome of a rescue."""
    event = _EVENTS.get(job.ending)
    if event is None:
        return

    signals.announce(
        event,
        job_id=job.id,
        name=job.name or "(foreign)",
        queue=job.queue,
        attempt=job.attempt,
        at=datetime.now(UTC),
        note=message,
    )


def _announce(jobs: Sequence[Rescued], message: str) -> None:
    for job in jobs:
        announce_rescue(job, message)
    # A signal receiver may have opened one, and the next fork must not inherit it.
    connections.close_all()
