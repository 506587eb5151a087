"""A job's progress as Server-Sent Events, for a page that is open.

Events: ``job`` (the status as JSON; first a snapshot, then each change), ``end`` (the state is
    final, nothing more will come), ``gone`` (the job was pruned, or may not be seen any more),
    ``poll`` (this server does not stream: ask ``job-status``). The id of an event is a digest of
    its data, so whoever comes back with the last id gets only news.

An open stream holds no connection to Redis or to a database.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, InterfaceError, connections

from .. import broker, status
from ..errors import DatabaseUnavailable
from ..models import JobRecord
from ..states import JobState
from . import watcher

logger = logging.getLogger("wellos_jobs")

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that nobody on the way takes the stream for dead."""
LOOK_EVERY = 30.0
"""Seconds after which the row is read again: may this person still see the job?"""
LONGEST = 600.0
"""Seconds after which a stream ends and the page comes back, maybe to another process."""
RETRY = 2.0
"""Seconds after which a page comes back when its stream ended, or polls."""
MOST = 1_000
"""Streams that a process holds; whoever comes beyond them polls."""


@dataclass(frozen=True)
class Seen:
    """A job's row, and whether this person may see its data and result."""

    record: JobRecord
    with_payload: bool


Look = Callable[[], Seen | None]
"""Reads the row anew; None if the job may not be seen any more."""


@dataclass(frozen=True)
class Snapshot:
    """A job's status at one moment, as an event."""

    data: str
    state: JobState

    @property
    def id(self) -> str:
        return hashlib.blake2s(self.data.encode(), digest_size=8).hexdigest()

    @property
    def is_final(self) -> bool:
        return self.state.is_final

    def text(self) -> str:
        return _event("job", self.data, self.id)


def snapshot(seen: Seen, found: dict[str, Any]) -> Snapshot:
    """Make a snapshot of a status (see ``status.job_status``), without what this person may not see."""
    if not seen.with_payload:
        found = found | {"data": None, "result": None}
    return Snapshot(json.dumps(found, cls=DjangoJSONEncoder), JobState(found["state"]))


def short(now: Snapshot, last_id: str = "") -> str:
    """Return the whole stream of a server that does not stream, or of a job that has ended."""
    parts = [_retry(), "" if now.id == last_id else now.text()]
    parts.append(_end(now) if now.is_final else _event("poll", json.dumps({"seconds": RETRY})))
    return "".join(parts)


def is_full() -> bool:
    """Tell whether this process holds as many streams as it should."""
    return watcher.count() >= MOST


class JobStream:
    """The events of one job until it has ended, as an asynchronous iterable. ``close`` ends it from outside."""

    def __init__(self, seen: Seen, now: Snapshot, look: Look, last_id: str = "") -> None:
        self._seen = seen
        self._now = now
        self._look = look
        self._sent = last_id
        self._watch: watcher.Watch | None = None

    def __aiter__(self) -> AsyncIterator[str]:
        return self._events()

    def close(self) -> None:
        """Watch the job no longer."""
        if self._watch is not None:
            self._watch.close()

    async def _events(self) -> AsyncIterator[str]:
        record = self._seen.record
        watch = self._watch = watcher.watch(broker.source_of(record.queue), status.hash_key(record))
        try:
            await sync_to_async(_close_connections)()
            yield _retry()
            async with aclosing(self._changes(watch, time.monotonic() + LONGEST)) as changes:
                async for text in changes:
                    yield text
        finally:
            watch.close()

    async def _changes(self, watch: watcher.Watch, end: float) -> AsyncGenerator[str]:
        next_look = time.monotonic() + LOOK_EVERY
        while time.monotonic() < end:
            if self._now.id != self._sent:
                self._sent = self._now.id
                yield self._now.text()
            if self._now.is_final:
                yield _end(self._now)
                return
            woken = await _wait(watch.changed, min(HEARTBEAT, next_look - time.monotonic()))
            if not woken:
                yield ": still here\n\n"
            if self._needs_row(watch) if woken else time.monotonic() >= next_look:
                if not await self._look_again():
                    yield _event("gone", "{}")
                    return
                next_look = time.monotonic() + LOOK_EVERY
            self._take(watch)

    def _needs_row(self, watch: watcher.Watch) -> bool:
        """Tell whether what was seen makes the row the better witness: Redis is away, or has not got the job."""
        return watch.latest is None or watch.latest.values is None or not watch.latest.values[0]

    def _take(self, watch: watcher.Watch) -> None:
        record, seen = self._seen.record, watch.latest
        if seen is None or status.has_ended(record):
            found = status.with_hash(record, [None] * len(status.FIELDS))
        elif seen.values is None:
            found = status.with_problem(record, seen.problem)
        else:
            found = status.with_hash(record, seen.values)
        self._now = snapshot(self._seen, found)

    async def _look_again(self) -> bool:
        """Read the row again; tell whether the job may still be seen. A database that is away changes nothing."""
        try:
            seen = await sync_to_async(self._read)()
        except (DatabaseUnavailable, DatabaseError, InterfaceError) as error:
            logger.warning(
                "live: the row of job=%s cannot be read: %s", self._seen.record.pk, error
            )
            return True
        self._seen = seen or self._seen
        return seen is not None

    def _read(self) -> Seen | None:
        try:
            return self._look()
        finally:
            _close_connections()


async def _wait(changed: asyncio.Event, seconds: float) -> bool:
    """Wait for a change, at most so long; tell whether there is one."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await changed.wait()
    except TimeoutError:
        return False
    changed.clear()
    return True


def _close_connections() -> None:
    """Close this thread's connections: a stream lives for minutes, and a database has not many connections."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _retry() -> str:
    return f"retry: {RETRY * 1000:.0f}\n\n"


def _end(now: Snapshot) -> str:
    return _event("end", json.dumps({"state": now.state.value}), now.id)


def _event(name: str, data: str, event_id: str = "") -> str:
    """Return an event as text. JSON has no line breaks, so the data is one line."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\ndata: {data}\n\n"
