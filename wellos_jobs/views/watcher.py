"""Watches over the hashes of jobs: one thread and two connections for each Redis, however many pages are open.

The thread sleeps until the event stream moves, then reads the hashes that are watched, all in one
round trip, and wakes those whose job has changed. It reads no events: a thousand transitions of
other jobs cost one look. It lives only while somebody watches.
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

SPACING = 0.1
"""Seconds between two looks, at least; and four times as long as a look takes, so that the thread rests."""
IDLE = 1.0
"""Seconds after which it looks although nothing happened."""
AWAY = 1.0
"""Seconds until Redis is asked again after it was away."""


class Sighting(NamedTuple):
    """What was seen of a hash: the values of ``status.FIELDS``, or why there are none."""

    values: Sequence[bytes | None] | None
    problem: str


class Watch:
    """One job that is watched from an event loop. ``latest`` is None until the first look."""

    def __init__(self, watcher: _Watcher, key: str) -> None:
        self.key = key
        self.latest: Sighting | None = None
        self.changed = asyncio.Event()
        self._watcher = watcher
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Watch no longer. May be called from any thread, and twice."""
        self._watcher.remove(self)

    def tell(self, sighting: Sighting) -> None:
        """Note what was seen, and wake the watching task if that is new. Called from the watcher's thread."""
        if sighting == self.latest:
            return
        self.latest = sighting
        try:
            self._loop.call_soon_threadsafe(self.changed.set)
        except RuntimeError:  # the loop was closed without a farewell
            self.close()


class _Watcher:
    """The watches over the jobs of one Redis."""

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
                name = f"wellos_jobs watches {self.source}"
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
                self._look(watches)
                time.sleep(max(SPACING, 4 * (time.monotonic() - start)))
                events.wait(broker.source_client(self.source, "block"), self._position, IDLE)
            except broker.Error as error:
                logger.info("watches: Redis %s cannot be asked: %s", self.source, error)
                for watch in watches:
                    watch.tell(_sighting(error))
                time.sleep(AWAY)

    def _needed(self) -> list[Watch]:
        """Return the watches; when there are none, the thread is done."""
        with self._lock:
            if not self._watches:
                self._thread = None
            return list(self._watches)

    def _look(self, watches: Sequence[Watch]) -> None:
        """Read where the stream ends and then the hashes, so that what comes in between is seen by the next look."""
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
        seen = {key: _sighting(reply) for key, reply in zip(chosen, replies, strict=True)}
        for watch in watches:
            watch.tell(seen[watch.key])


def _sighting(reply: Any) -> Sighting:
    return (
        Sighting(None, status.why(reply)) if isinstance(reply, Exception) else Sighting(reply, "")
    )


_watchers: dict[str, _Watcher] = {}
os.register_at_fork(after_in_child=_watchers.clear)


def watch(source: str, key: str) -> Watch:
    """Watch the hash of a job from the running event loop. Whoever watches closes the watch."""
    return _watchers.setdefault(source, _Watcher(source)).add(key)


def count() -> int:
    """Return how many watches this process holds."""
    return sum(len(watcher) for watcher in _watchers.values())
