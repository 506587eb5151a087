"""Rows that Redis does not know: pushed late by the relay, pushed again by the rebuild."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import redis as redis_py
from django.db.models import Q
from django.utils import timezone

from .. import broker
from ..broker import keys
from ..enqueueing.push import push
from ..models import JobRecord
from ..states import OPEN_STATES, EventName, JobState

logger = logging.getLogger("wellos_jobs")

GRACE = timedelta(seconds=2)
"""A row this young is still being pushed by the process that made it."""
STALE_AFTER = 20.0
"""Seconds after reading rows in which they may be pushed: far less than Redis keeps final jobs."""
CHUNK = 500
MOST_CHUNKS = 10
"""Chunks of one call of the relay: the ledger has to go on."""


def relay(database: str, served: Sequence[str], connection: redis_py.Redis) -> int:
    """Push rows that were committed but never reached Redis; return how many. Call it at the stream's end only."""
    pushed, last = 0, None
    rows = (
        JobRecord.objects.using(database)
        .filter(
            state__in=[JobState.WAITING, JobState.DELAYED],
            enqueued_at__isnull=True,
            rq_id__isnull=True,
        )
        .filter(queue__in=served, created_at__lt=timezone.now() - GRACE)
        .order_by("created_at", "pk")
    )
    for _ in range(MOST_CHUNKS):
        deadline = broker.redis_time(connection) + STALE_AFTER
        page = (
            rows.filter(Q(created_at__gt=last[0]) | Q(created_at=last[0], pk__gt=last[1]))
            if last
            else rows
        )
        chunk = list(page[:CHUNK])
        if not chunk:
            break
        last = (chunk[-1].created_at, chunk[-1].pk)
        pushed += _push(chunk, deadline) or 0
    if pushed:
        logger.info("relay: %d jobs of %s had not reached Redis", pushed, database)
    return pushed


def _push(rows: Sequence[JobRecord], deadline: float) -> int | None:
    """Push rows read a moment ago; None if that moment was too long."""
    replayed = [row for row in rows if row.replays and row.enqueued_at is None]
    plain = [row for row in rows if not row.replays or row.enqueued_at is not None]
    try:
        pushed = push(replayed, EventName.REPLAYED, deadline=f"{deadline:.6f}") if replayed else 0
        return pushed + (push(plain, deadline=f"{deadline:.6f}") if plain else 0)
    except redis_py.ResponseError as error:
        if not str(error).startswith("LATE"):
            raise
        logger.warning("%d rows were read too long ago to be pushed, and are read again", len(rows))
        return None


def _is_known(row: JobRecord, found: Any) -> bool:
    """Tell whether Redis has this life of a job: one that was rolled back may hold the life before a replay, and
    somebody may have put something else under its key."""
    if isinstance(found, Exception):
        if "WRONGTYPE" not in str(found):
            raise found
        logger.warning("rebuild: the hash of job=%s is none, it is made anew: %s", row.pk, found)
        return False
    status, generation = found
    return status is not None and int(generation or 0) >= row.replays


class Rebuild:
    """Pushes the open rows that Redis has forgotten, a chunk at a time, so that the ledger is not held up."""

    def __init__(self, database: str, served: Sequence[str], connection: redis_py.Redis) -> None:
        self.database = database
        self.connection = connection
        self.pushed = 0
        self._rows = JobRecord.objects.using(database).filter(
            state__in=OPEN_STATES - {JobState.BLOCKED}, rq_id__isnull=True, queue__in=served
        )
        self._last: uuid.UUID | None = None

    def step(self) -> bool:
        """Look at the next chunk; tell whether there may be more. Call it at the stream's end only."""
        deadline = broker.redis_time(self.connection) + STALE_AFTER
        page = self._rows.filter(pk__gt=self._last) if self._last else self._rows
        chunk = list(page.order_by("pk")[:CHUNK])
        if not chunk:
            if self.pushed:
                logger.warning(
                    "rebuild: %d open jobs of %s were missing in Redis", self.pushed, self.database
                )
            return False
        with self.connection.pipeline(transaction=False) as pipeline:
            for row in chunk:
                pipeline.hmget(keys.job(row.pk), ["status", "w:gen"])
            replies = pipeline.execute(raise_on_error=False)
        missing = [
            row for row, found in zip(chunk, replies, strict=True) if not _is_known(row, found)
        ]
        if missing:
            pushed = _push(missing, deadline)
            if pushed is None:
                return True
            self.pushed += pushed
        self._last = chunk[-1].pk
        return True
