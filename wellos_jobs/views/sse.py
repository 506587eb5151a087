"""A job's status as Server-Sent Events.

Events: ``job`` (the status as JSON; first a snapshot, then each change), ``end`` (the state is
final), ``gone`` (the job was pruned, or the user may no longer see it), ``poll`` (this server does
not stream: poll ``job-status``). The id of an event is a digest of its data, so a client that
reconnects with the last id gets only changes.

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
"""Seconds of silence after which a comment is sent, so that no proxy closes the stream."""
RECHECK_EVERY = 30.0
"""Seconds after which row and permissions are checked again."""
MAX_DURATION = 600.0
"""Seconds after which a stream ends and the page reconnects, maybe to another process."""
RETRY = 2.0
"""Seconds after which a page reconnects or polls."""
MAX_STREAMS = 1_000
"""Max open streams per process; further clients fall back to polling."""


@dataclass(frozen=True)
class VisibleJob:
    """A job's row, and whether the user may see its data and result."""

    record: JobRecord
    with_payload: bool


Reload = Callable[[], VisibleJob | None]
"""Reads the row again; None if the user may no longer see the job."""


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


def snapshot(job: VisibleJob, found: dict[str, Any]) -> Snapshot:
    """Build a snapshot of a ``status.job_status``, without what the user may not see."""
    if not job.with_payload:
        found = found | {"data": None, "result": None}
    return Snapshot(json.dumps(found, cls=DjangoJSONEncoder), JobState(found["state"]))


def short(now: Snapshot, last_id: str = "") -> str:
    """Return the complete response when the server does not stream, or the job has ended."""
    parts = [_retry(), "" if now.id == last_id else now.text()]
    parts.append(_end(now) if now.is_final else _event("poll", json.dumps({"seconds": RETRY})))
    return "".join(parts)


def is_full() -> bool:
    """Return whether this process has as many streams as it may."""
    return watcher.count() >= MAX_STREAMS


class JobStream:
    """The events of one job until it has ended, as an async iterable. ``close`` ends it early."""

    def __init__(self, job: VisibleJob, now: Snapshot, reload: Reload, last_id: str = "") -> None:
        self._job = job
        self._now = now
        self._reload = reload
        self._sent = last_id
        self._watch: watcher.Watch | None = None

    def __aiter__(self) -> AsyncIterator[str]:
        return self._events()

    def close(self) -> None:
        """Stop watching the job."""
        if self._watch is not None:
            self._watch.close()

    async def _events(self) -> AsyncIterator[str]:
        record = self._job.record
        watch = self._watch = watcher.watch(broker.source_of(record.queue), status.hash_key(record))
        try:
            await sync_to_async(_close_connections)()
            yield _retry()
            async with aclosing(self._changes(watch, time.monotonic() + MAX_DURATION)) as changes:
                async for text in changes:
                    yield text
        finally:
            watch.close()

    async def _changes(self, watch: watcher.Watch, end: float) -> AsyncGenerator[str]:
        next_check = time.monotonic() + RECHECK_EVERY
        while time.monotonic() < end:
            if self._now.id != self._sent:
                self._sent = self._now.id
                yield self._now.text()
            if self._now.is_final:
                yield _end(self._now)
                return

            woken = await _wait(watch.changed, min(HEARTBEAT, next_check - time.monotonic()))
            if not woken:
                yield ": still here\n\n"

            if self._needs_row(watch) if woken else time.monotonic() >= next_check:
                if not await self._recheck():
                    yield _event("gone", "{}")
                    return
                next_check = time.monotonic() + RECHECK_EVERY
            self._take(watch)

    def _needs_row(self, watch: watcher.Watch) -> bool:
        """Return whether only the row has the status: Redis is unavailable or lacks the job."""
        return watch.latest is None or watch.latest.values is None or not watch.latest.values[0]

    def _take(self, watch: watcher.Watch) -> None:
        record, reading = self._job.record, watch.latest
        if reading is None or status.has_ended(record):
            found = status.with_hash(record, [None] * len(status.FIELDS))
        elif reading.values is None:
            found = status.with_problem(record, reading.problem)
        else:
            found = status.with_hash(record, reading.values)
        self._now = snapshot(self._job, found)

    async def _recheck(self) -> bool:
        """Read the row again; return whether the user may still see the job.

        When the database is unavailable, nothing changes.
        """
        try:
            job = await sync_to_async(self._read)()
        except (DatabaseUnavailable, DatabaseError, InterfaceError) as error:
            logger.warning("sse: the row of job=%s cannot be read: %s", self._job.record.pk, error)
            return True
        self._job = job or self._job
        return job is not None

    def _read(self) -> VisibleJob | None:
        try:
            return self._reload()
        finally:
            _close_connections()


async def _wait(changed: asyncio.Event, seconds: float) -> bool:
    """Wait for a change, at most ``seconds``; return whether there was one."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await changed.wait()
    except TimeoutError:
        return False
    changed.clear()
    return True


def _close_connections() -> None:
    """Close this thread's connections: a stream lasts minutes, and database connections are few."""
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
