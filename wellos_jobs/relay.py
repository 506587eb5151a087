"""Rows that Redis does not know: pushed late by the relay, pushed again by the rebuild."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import timedelta

import redis as redis_py
from django.utils import timezone

from . import keys, queues
from .models import JobRecord
from .registration import redis_time
from .states import OPEN_STATES, JobState

logger = logging.getLogger("wellos_jobs")

GRACE = timedelta(seconds=2)
"""A row this young is still being pushed by the process that made it."""
STALE_AFTER = 20.0
"""Seconds after reading rows in which they may be pushed: far less than Redis keeps final jobs."""
CHUNK = 500


def relay(database: str, served: Sequence[str], connection: redis_py.Redis) -> int:
    """Push rows that were committed but never reached Redis; return how many. Call it at the stream's end only."""
    deadline = redis_time(connection) + STALE_AFTER
    rows = list(
        JobRecord.objects.using(database)
        .filter(state__in=[JobState.WAITING, JobState.DELAYED], enqueued_at__isnull=True, rq_id__isnull=True)
        .filter(queue__in=served, created_at__lt=timezone.now() - GRACE)
        .order_by("created_at")[:CHUNK]
    )
    return queues.push(rows, deadline=f"{deadline:.6f}") if rows else 0


class Rebuild:
    """Pushes the open rows that Redis has forgotten, a chunk at a time, so that the ledger is not held up."""

    def __init__(self, database: str, served: Sequence[str], connection: redis_py.Redis) -> None:
        self.database = database
        self.connection = connection
        self.pushed = 0
        self._rows = JobRecord.objects.using(database).filter(
            state__in=OPEN_STATES, rq_id__isnull=True, queue__in=served
        )
        self._last: uuid.UUID | None = None

    def step(self) -> bool:
        """Look at the next chunk; tell whether there may be more. Call it at the stream's end only."""
        deadline = redis_time(self.connection) + STALE_AFTER
        page = self._rows.filter(pk__gt=self._last) if self._last else self._rows
        chunk = list(page.order_by("pk")[:CHUNK])
        if not chunk:
            if self.pushed:
                logger.warning("rebuild: %d open jobs of %s were missing in Redis", self.pushed, self.database)
            return False
        self._last = chunk[-1].pk
        with self.connection.pipeline(transaction=False) as pipeline:
            for row in chunk:
                pipeline.exists(keys.job(row.pk))
            missing = [row for row, known in zip(chunk, pipeline.execute(), strict=True) if not known]
        if missing:
            self.pushed += queues.push(missing, deadline=f"{deadline:.6f}")
        return True
