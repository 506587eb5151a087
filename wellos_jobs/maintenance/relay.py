"""Push rows missing in Redis: relay (never pushed) and rebuild (lost by Redis)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import redis as redis_py
from django.db.models import Q

from .. import broker
from ..broker.events import Event
from ..enqueueing.push import push
from ..models import JobRecord
from ..states import OPEN_STATES, EventName, JobState
from . import lost_ends

logger = logging.getLogger("wellos_jobs")

GRACE = timedelta(seconds=2)
"""Rows younger than this are still being pushed by the process that inserted them."""

STALE_AFTER = 20.0
"""Seconds after a read in which rows may be pushed: well below the time to live of ended jobs."""

CHUNK = 500

MOST_CHUNKS = 10
"""Chunks of one call of the relay, so that the ledger is not held up."""


def relay(database: str, served: Sequence[str], connection: redis_py.Redis) -> int:
    """Push committed rows that never reached Redis; return how many.

    Call it only once the ledger has reached the stream's end.
    """
    rows = (
        JobRecord.objects.using(database)
        .filter(
            state__in=[JobState.WAITING, JobState.DELAYED],
            enqueued_at__isnull=True,
            rq_id__isnull=True,
            queue__in=served,
        )
        .exclude(created_at__range=_still_pushed(connection))
        .order_by("created_at", "pk")
    )
    pushed, page = 0, rows

    for _ in range(MOST_CHUNKS):
        deadline = broker.redis_time(connection) + STALE_AFTER
        chunk = list(page[:CHUNK])
        if not chunk:
            break

        pushed += _push(chunk, deadline) or 0
        last = chunk[-1]
        page = rows.filter(
            Q(created_at__gt=last.created_at) | Q(created_at=last.created_at, pk__gt=last.pk)
        )

    if pushed:
        logger.info("relay: %d jobs of %s had not reached Redis", pushed, database)
    return pushed


def _patient(source: str) -> AbstractContextManager[broker.Client]:
    """Return a client that waits longer than a web request may."""
    return nullcontext(broker.source_client(source, "work"))


def _still_pushed(connection: redis_py.Redis) -> tuple[datetime, datetime]:
    """Return between which times rows were created that need no relay yet.

    A row from the future comes from a machine whose clock is ahead: waiting for that would take as
    long as it is ahead.
    """
    now = datetime.fromtimestamp(broker.redis_time(connection), UTC)
    return now - GRACE, now + GRACE


def _push(rows: Sequence[JobRecord], deadline: float) -> int | None:
    """Push rows before ``deadline``, by the clock of Redis; return None if it has passed."""
    replayed = [row for row in rows if row.replays and row.enqueued_at is None]
    others = [row for row in rows if not row.replays or row.enqueued_at is not None]
    text = f"{deadline:.6f}"
    pushed = 0

    try:
        if replayed:
            pushed += push(replayed, EventName.REPLAYED, deadline=text, connect=_patient)
        if others:
            pushed += push(others, deadline=text, connect=_patient)
    except redis_py.ResponseError as error:
        if not str(error).startswith("LATE"):
            raise
        logger.warning("%d rows were read too long ago to be pushed: reading again", len(rows))
        return None
    return pushed


def _is_known(row: JobRecord, found: Any) -> bool:
    """Return whether Redis has this job, in its current replay.

    A Redis that was rolled back may hold the job from before a replay, and its key may hold another
    type.
    """
    if isinstance(found, Exception):
        if "WRONGTYPE" not in str(found):
            raise found
        logger.warning(
            "rebuild: the key of job=%s is not a hash: creating it again: %s", row.pk, found
        )
        return False

    status, generation = found[0], found[1]
    return status is not None and int(generation or 0) >= row.replays


class Rebuild:
    """Compares open rows with Redis, in chunks so that the ledger is not held up.

    Jobs that Redis has lost are pushed. Jobs that have ended there, but whose last event was lost,
    are given to ``close``, and so are lost jobs of plain RQ code, whose rows are history only.
    """

    def __init__(
        self,
        database: str,
        served: Sequence[str],
        connection: redis_py.Redis,
        close: Callable[[Sequence[Event]], None] | None = None,
    ) -> None:
        self.database = database
        self.connection = connection
        self.pushed = 0
        self._rows = JobRecord.objects.using(database).filter(
            state__in=OPEN_STATES - {JobState.BLOCKED}, queue__in=served
        )
        self._last: uuid.UUID | None = None
        self._close = close
        self._doubtful: list[uuid.UUID] = []
        """Rows of the last step whose job has ended in Redis: their event may be on its way."""

    def step(self) -> bool:
        """Check the next chunk; return whether there may be more.

        Call it at the stream's end only.
        """
        self._end_doubtful()
        deadline = broker.redis_time(self.connection) + STALE_AFTER
        page = self._rows.filter(pk__gt=self._last) if self._last else self._rows
        chunk = list(page.order_by("pk")[:CHUNK])
        if not chunk:
            if self.pushed:
                logger.warning(
                    "rebuild: %d open jobs of %s were missing in Redis", self.pushed, self.database
                )
            return False

        found = lost_ends.read(self.connection, chunk)
        self._doubtful = [row.pk for row in chunk if lost_ends.has_ended(row, found[row.pk])]
        missing = [row for row in chunk if not row.is_foreign and not _is_known(row, found[row.pk])]

        if missing:
            pushed = _push(missing, deadline)
            if pushed is None:
                return True
            self.pushed += pushed
        self._last = chunk[-1].pk
        return True

    def _end_doubtful(self) -> None:
        """End the rows that are still open, although the ledger has read the stream since."""
        doubtful, self._doubtful = self._doubtful, []
        if not doubtful or self._close is None:
            return

        rows = list(self._rows.filter(pk__in=doubtful))
        found = lost_ends.read(self.connection, rows)
        ended = [
            lost_ends.event(row, found[row.pk], self.database)
            for row in rows
            if lost_ends.has_ended(row, found[row.pk])
        ]
        if ended:
            logger.warning(
                "%d open rows of %s are ended: their jobs have ended, or were lost with the data "
                "of Redis",
                len(ended),
                self.database,
            )
            self._close(ended)
