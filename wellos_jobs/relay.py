"""Rows that Redis does not know: pushed late by the relay, pushed again by the rebuild."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
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


def rebuild(database: str, served: Sequence[str], connection: redis_py.Redis) -> int:
    """Push every open row that Redis has forgotten; return how many. Call it at the stream's end only."""
    pushed = 0
    for chunk in _open_rows(database, served):
        deadline = redis_time(connection) + STALE_AFTER
        with connection.pipeline(transaction=False) as pipeline:
            for row in chunk:
                pipeline.exists(keys.job(row.pk))
            missing = [row for row, known in zip(chunk, pipeline.execute(), strict=True) if not known]
        if missing:
            pushed += queues.push(missing, deadline=f"{deadline:.6f}")
    if pushed:
        logger.warning("rebuild: %d open jobs of database %s were missing in Redis and are back", pushed, database)
    return pushed


def _open_rows(database: str, served: Sequence[str]) -> Iterator[list[JobRecord]]:
    rows = JobRecord.objects.using(database).filter(state__in=OPEN_STATES, rq_id__isnull=True, queue__in=served)
    last = None
    while True:
        page = rows.filter(pk__gt=last) if last else rows
        chunk = list(page.order_by("pk")[:CHUNK])
        if not chunk:
            return
        yield chunk
        last = chunk[-1].pk
