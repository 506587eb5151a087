"""The event stream of one Redis: every transition of every job, in order, for the ledger."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import redis

from ..states import EventName
from . import keys

logger = logging.getLogger("wellos_jobs")

START = "0-0"
"""The position before the first event."""

NO_DATABASE = "(unreadable)"
"""The database alias of an event that cannot be read: it belongs to no database."""

NOT_STORED = "(not stored: the database refused the texts of this run)"
"""The message of an event whose texts the database refuses."""

_DECIDING = frozenset({"after", "percent", "reason", "run", "run_at", "wait"})
"""Fields of ``detail`` that decide a state or are counted."""


@dataclass(frozen=True, slots=True)
class Event:
    """One transition. ``at`` is from the Redis clock; ``name`` is '' for foreign jobs."""

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

    def without_texts(self) -> Event:
        """Return the event with what decides the job's state, for a database that refuses the rest.

        A message says that the texts are missing; result and log lines are left out.
        """
        kept = {key: value for key, value in self.detail.items() if key in _DECIDING}
        if not self.name:  # a foreign job: its row is made from this, not from its hash
            called = str(self.detail.get("name") or "(unknown)")
            kept |= {"name": _ascii(called), "data": {}}
        detail = {**kept, "message": NOT_STORED}
        return replace(self, worker=_ascii(self.worker), detail=detail)


def read(connection: redis.Redis, after: str, count: int = 500) -> tuple[str, list[Event]]:
    """Return the epoch of Redis and up to ``count`` events after a position, read together.

    A position is valid in its epoch only: compare the epoch before using the events. No MULTI: a
    Redis whose memory is full refuses it, even for reading. The epoch is read on both sides.
    """
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.get(keys.EPOCH)
        pipeline.xrange(keys.EVENTS, min=f"({after}", count=count)
        pipeline.get(keys.EPOCH)
        epoch, entries, epoch_after = pipeline.execute()

    if epoch != epoch_after:
        epoch, entries = epoch_after, []
    return (epoch or b"").decode(), [_decode(position, fields) for position, fields in entries]


def wait(connection: redis.Redis, after: str, seconds: float) -> bool:
    """Block until there is an event after the position, at most ``seconds``; False if none came."""
    milliseconds = max(1, int(seconds * 1000))
    return bool(connection.xread({keys.EVENTS: after}, count=1, block=milliseconds))


def backlog(connection: redis.Redis) -> int:
    """Return the number of events in the stream."""
    return int(connection.xlen(keys.EVENTS))


def trim(connection: redis.Redis, upto: str) -> None:
    """Delete the events up to and including a position, once all databases have committed them."""
    milliseconds, sequence = upto.split("-")
    connection.xtrim(keys.EVENTS, minid=f"{milliseconds}-{int(sequence) + 1}", approximate=False)


def order(position: str) -> tuple[int, int]:
    """Return a position as numbers that compare in stream order."""
    milliseconds, sequence = position.split("-")
    return int(milliseconds), int(sequence)


def earliest(positions: Iterable[str]) -> str:
    return min(positions, key=order)


def _decode(position: bytes, fields: dict[bytes, bytes]) -> Event:
    """Read an event. If it cannot be read, as from a later version, it belongs to no database."""
    try:
        return _read(position, fields)
    except (KeyError, ValueError):
        place = position.decode()
        logger.exception("event %s cannot be read and is skipped", place)
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


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\x00", "?")
