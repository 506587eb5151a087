"""Watches job hashes for SSE: one thread and two connections per Redis, for any number of pages.

The thread sleeps until the event stream grows, then reads all watched hashes in one round trip, and
wakes the streams whose job has changed. It does not read the events, so a thousand transitions of
other jobs cost one read. It runs only while something is watched.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import broker, status
from ..broker import events, keys

logger = logging.getLogger("wellos_jobs")

MIN_INTERVAL = 0.1
"""Minimum seconds between two reads. It is at least four times the duration of a read, to limit
the thread's load."""
MAX_INTERVAL = 1.0
"""Seconds after which it reads even without an event."""
RETRY_DELAY = 1.0
"""Seconds until the next read after Redis was unavailable."""


class Reading(NamedTuple):
    """A reading of a hash: the values of ``status.FIELDS``, or why there are none."""

    values: Sequence[bytes | None] | None
    problem: str


class Watch:
    """One job, watched from an event loop. ``latest`` is None until the first reading."""

    def __init__(self, watcher: _Watcher, key: str) -> None:
        self.key = key
        self.latest: Reading | None = None
        self.changed = asyncio.Event()
        self._watcher = watcher
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Stop watching. May be called from any thread, and twice."""
        self._watcher.remove(self)

    def update(self, reading: Reading) -> None:
        """Store a reading, and wake the task if it is new. Called from the watcher's thread."""
        if reading == self.latest:
            return
        self.latest = reading
        try:
            self._loop.call_soon_threadsafe(self.changed.set)
        except RuntimeError:  # the event loop is already closed
            self.close()


class _Watcher:
    """The watches on the jobs of one Redis."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._thread: threading.Thread | None = None
        self._position = events.START

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, key: str) -> Watch:
        watch = Watch(self, key)
        with self._lock:
            self._watches.add(watch)
            if self._thread is None:
                name = f"wellos_jobs watcher {self.source}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
        return watch

    def remove(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def _run(self) -> None:
        while watches := self._needed():
            try:
                start = time.monotonic()
                self._read(watches)
                time.sleep(max(MIN_INTERVAL, 4 * (time.monotonic() - start)))
                events.wait(
                    broker.source_client(self.source, "block"), self._position, MAX_INTERVAL
                )
            except broker.Error as error:
                logger.info("watcher: Redis %s cannot be read: %s", self.source, error)
                for watch in watches:
                    watch.update(_reading(error))
                time.sleep(RETRY_DELAY)

    def _needed(self) -> list[Watch]:
        """Return the watches; if there are none, the thread ends."""
        with self._lock:
            if not self._watches:
                self._thread = None
            return list(self._watches)

    def _read(self, watches: Sequence[Watch]) -> None:
        """Read the end of the stream, then the hashes; the next read finds changes in between."""
        chosen = list({watch.key for watch in watches})
        with broker.source_client(self.source, "call").pipeline(transaction=False) as pipeline:
            pipeline.xrevrange(keys.EVENTS, count=1)
            for key in chosen:
                pipeline.hmget(key, status.FIELDS)
            newest, *replies = pipeline.execute(raise_on_error=False)

        if isinstance(newest, Exception):
            raise newest
        if newest:
            self._position = broker.text(newest[0][0])

        readings = {key: _reading(reply) for key, reply in zip(chosen, replies, strict=True)}
        for watch in watches:
            watch.update(readings[watch.key])


def _reading(reply: Any) -> Reading:
    return Reading(None, status.why(reply)) if isinstance(reply, Exception) else Reading(reply, "")


_watchers: dict[str, _Watcher] = {}
os.register_at_fork(after_in_child=_watchers.clear)


def watch(source: str, key: str) -> Watch:
    """Watch the hash of a job from the running event loop. The caller closes the watch."""
    return _watchers.setdefault(source, _Watcher(source)).add(key)


def count() -> int:
    """Return the number of watches in this process."""
    return sum(len(watcher) for watcher in _watchers.values())
