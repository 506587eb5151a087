"""The event stream of one Redis: every transition of every job, in order, until the ledger has it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import redis

from ..states import EventName
from . import keys

logger = logging.getLogger("wellos_jobs")

START = "0-0"
"""The position before the first event."""


NO_DATABASE = "(unreadable)"
"""What stands for the alias in an event that nobody can read, so that no database takes it for its own."""


@dataclass(frozen=True, slots=True)
class Event:
    """One transition. ``at`` is the Redis clock in milliseconds; ``name`` is '' for jobs of foreign code."""

    position: str
    event: EventName
    job_id: str
    name: str
    queue: str
    attempt: int
    worker: str
    database: str
    generation: int
    at: datetime
    detail: dict[str, Any] = field(default_factory=dict)


def read(connection: redis.Redis, after: str, count: int = 500) -> tuple[str, list[Event]]:
    """Return the epoch of Redis and at most ``count`` events after a position, in order, as of one moment.

    A position means nothing in another epoch: compare before you use the events.
    """
    with connection.pipeline(transaction=True) as pipeline:
        pipeline.get(keys.EPOCH)
        pipeline.xrange(keys.EVENTS, min=f"({after}", count=count)
        epoch, entries = pipeline.execute()
    return (epoch or b"").decode(), [_decode(position, fields) for position, fields in entries]


def wait(connection: redis.Redis, after: str, seconds: float) -> bool:
    """Block until an event after the position exists, at most ``seconds``; tell whether one does."""
    milliseconds = max(1, int(seconds * 1000))
    return bool(connection.xread({keys.EVENTS: after}, count=1, block=milliseconds))


def backlog(connection: redis.Redis) -> int:
    """Return how many events the stream holds."""
    return int(connection.xlen(keys.EVENTS))


def trim(connection: redis.Redis, upto: str) -> None:
    """Drop the events up to and with a position. Only after every database has committed them."""
    milliseconds, sequence = upto.split("-")
    connection.xtrim(keys.EVENTS, minid=f"{milliseconds}-{int(sequence) + 1}", approximate=False)


def order(position: str) -> tuple[int, int]:
    """Return a position as numbers that compare in stream order."""
    milliseconds, sequence = position.split("-")
    return int(milliseconds), int(sequence)


def earliest(positions: Iterable[str]) -> str:
    return min(positions, key=order)


def _decode(position: bytes, fields: dict[bytes, bytes]) -> Event:
    """Read an event. One that cannot be read, as of a later version, keeps its place and is of no database."""
    try:
        return _read(position, fields)
    except (KeyError, ValueError):
        place = position.decode()
        logger.exception("event %s cannot be read: passed over", place)
        return Event(place, EventName.PROGRESSED, "", "", "", 0, "", NO_DATABASE, 0, _moment(place))


def _moment(place: str) -> datetime:
    return datetime.fromtimestamp(int(place.split("-")[0]) / 1000, tz=UTC)


def _read(position: bytes, fields: dict[bytes, bytes]) -> Event:
    text = {key.decode(): value.decode("utf-8", "replace") for key, value in fields.items()}
    place = position.decode()
    return Event(
        position=place,
        event=EventName(text["e"]),
        job_id=text["id"],
        name=text["n"],
        queue=text["q"],
        attempt=int(float(text["a"] or 0)),
        worker=text["w"],
        database=text["db"],
        generation=int(text["g"] or 0),
        at=_moment(place),
        detail=json.loads(text["d"]) if text["d"] else {},
    )
