"""The ends of jobs whose last event was lost: made from what Redis still has of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import redis as redis_py

from .. import broker
from ..broker import job_hash, keys
from ..broker.events import START, Event
from ..models import JobRecord
from ..states import FINAL_STATES, STATE_OF_RQ_STATUS, EventName, FailureReason, JobState

LOST = (
    "Redis no longer has this job of plain RQ code: it was lost with the data of Redis, or deleted "
    "through RQ"
)

_FIELDS = (
    job_hash.STATUS,
    job_hash.GENERATION,
    job_hash.ATTEMPT,
    job_hash.ENDED_AT,
    job_hash.WORKER,
    job_hash.RESULT,
    job_hash.ERROR,
)
_EVENTS: Mapping[JobState | None, EventName] = {
    JobState.COMPLETED: EventName.COMPLETED,
    JobState.FAILED: EventName.FAILED,
    JobState.CANCELED: EventName.CANCELED,
}


def read(connection: redis_py.Redis, rows: Sequence[JobRecord]) -> Mapping[uuid.UUID, Any]:
    """Return what Redis has of these jobs: status, generation and more, or an error. One call."""
    with connection.pipeline(transaction=False) as pipeline:
        for row in rows:
            pipeline.hmget(keys.job(row.rq_id or row.pk), _FIELDS)
        replies = pipeline.execute(raise_on_error=False)
    return {row.pk: found for row, found in zip(rows, replies, strict=True)}


def has_ended(row: JobRecord, found: Any) -> bool:
    """Return whether Redis says that the job has ended: ours by its status, in the row's life; one
    of plain RQ code also if it is gone."""
    if isinstance(found, Exception):
        return False
    status, generation = broker.text(found[0]), found[1]
    if row.is_foreign and not status:
        return True
    ended = STATE_OF_RQ_STATUS.get(status) in FINAL_STATES
    return ended and int(generation or 0) >= row.replays


def event(row: JobRecord, found: Any, database: str) -> Event:
    """Return the event that ends the row of a job that ``has_ended``."""
    text = job_hash.decode(_FIELDS, found)
    state = STATE_OF_RQ_STATUS.get(text[job_hash.STATUS])
    detail = _detail(state, text)
    return Event(
        position=START,
        event=_EVENTS.get(state, EventName.FAILED),
        job_id=row.rq_id or str(row.pk),
        name="" if row.is_foreign else row.name,
        queue=row.queue,
        attempt=int(text[job_hash.ATTEMPT] or row.attempts),
        worker=text[job_hash.WORKER],
        database=database,
        generation=row.replays,
        at=_moment(text[job_hash.ENDED_AT]),
        detail=detail,
    )


def _detail(state: JobState | None, text: Mapping[str, str]) -> dict[str, Any]:
    if state is None:
        return {"reason": FailureReason.LOST.value, "message": LOST}
    if state == JobState.COMPLETED:
        return {"result": text[job_hash.RESULT]}
    return {"message": text[job_hash.ERROR]}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC) if text else datetime.now(UTC)
