"""Report the progress of a run, throttled: a job may report from a tight loop."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from .. import broker, signals
from ..broker.claims import Claim, Claimer
from ..states import EventName

logger = logging.getLogger("wellos_jobs")

SPACING = 0.5
"""Seconds between two reports of a run. Steps of ten percent and the last report always pass."""


class Reporter:
    """Sends the progress of one run. A report that was held back is sent by ``flush``."""

    def __init__(self, claimer: Claimer, claim: Claim) -> None:
        self._claimer = claimer
        self._claim = claim
        self._sent_at = 0.0
        self._sent: tuple[int, str] | None = None
        self._held: tuple[int, str] | None = None

    def __call__(self, percent: int, message: str, final: bool) -> None:
        self._held = (percent, message)
        elapsed = time.monotonic() - self._sent_at
        big_step = self._sent is None or abs(percent - self._sent[0]) >= 10
        if final or big_step or elapsed >= SPACING:
            self.flush()

    def flush(self) -> None:
        """Send the report that was held back. When Redis is unavailable, this is only logged."""
        if self._held is None or self._held == self._sent:
            return

        percent, message = self._held
        self._held, self._sent, self._sent_at = None, (percent, message), time.monotonic()
        try:
            stored = self._claimer.report_progress(self._claim, percent, message)
        except broker.Unavailable as error:
            logger.warning(
                "progress of job=%s was not stored, Redis is unavailable: %s", self._claim.id, error
            )
            return

        if stored:
            self._announce(percent)

    def _announce(self, percent: int) -> None:
        signals.announce(
            EventName.PROGRESSED,
            job_id=self._claim.id,
            name=self._claim.name,
            queue=self._claim.queue,
            attempt=self._claim.attempt,
            at=datetime.now(UTC),
            note=f"percent={percent}",
        )
