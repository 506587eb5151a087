"""The clock's loop: one leader among all `rqscheduler` processes serves schedules and rq-scheduler's entries.

It sleeps until the next due time or until the alarm rings, and survives Redis and databases that are away.
"""

from __future__ import annotations

import logging
import signal
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any, Protocol

from django.core.exceptions import ValidationError
from django.db import DatabaseError, InterfaceError, connections

from . import alarm, databases, redis, schedules, ticks
from .errors import WellosJobsError
from .slots import Slot

logger = logging.getLogger("wellos_jobs")

LOCK_MS = 5_000
LONGEST_SLEEP = 1.0
LONGEST_PAUSE = 2.0


class Served(Protocol):
    """What the clock needs of a scheduler: to serve its own entries, and to tell the time."""

    clock: Callable[[], float]

    def serve(self) -> float | None:
        """Enqueue what is due; return when the next entry is due."""


class Clock:
    """One process's clock. ``scheduler`` serves rq-scheduler's entries and tells the time."""

    def __init__(self, source: str, scheduler: Served, slot: Slot | None = None) -> None:
        self.source = source
        self.slot = slot or Slot()
        self.connection = redis.source_client(source, "work")
        self.scheduler = scheduler
        self.token = uuid.uuid4().hex
        self.stopping = False
        self.leading = False
        self._databases: list[str] | None = None
        self._pause = 0.0

    def run(self, burst: bool = False) -> int:
        """Run until SIGTERM or SIGINT; with ``burst`` serve once. Signals take effect between two passes only."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        while not self.stopping:
            self.slot.beat()
            seconds = self._guarded(self.one_pass)
            if burst:
                break
            if not self.stopping:
                self._guarded(partial(alarm.wait, self.source, seconds))
        self._guarded(lambda: redis.run(self.connection, "resign", "clock", self.token))
        return 0

    def one_pass(self) -> float:
        """Serve what is due if this process leads; return how long to sleep, in seconds."""
        led = self.leading
        self.leading = bool(redis.run(self.connection, "lead", "clock", self.token, LOCK_MS))
        if not self.leading:
            return LONGEST_SLEEP
        if not led:
            logger.info("clock: leading")
        due = [self.scheduler.serve(), *self._calendar()]
        times = [moment for moment in due if moment is not None]
        return min(LONGEST_SLEEP, max(0.0, min(times, default=float("inf")) - self.scheduler.clock()))

    def _calendar(self) -> list[float | None]:
        """Tick every database; return when each is due next."""
        if self._databases is None:
            found = databases.with_jobs()
            for database in found:
                self._synchronise(database)
            self._databases = found
        due: list[float | None] = []
        for database in self._databases:
            moment = ticks.next_due(database)
            if moment is not None and moment.timestamp() <= self.scheduler.clock():
                ticks.tick(database, datetime.fromtimestamp(self.scheduler.clock(), tz=UTC))
                moment = ticks.next_due(database)
            due.append(moment.timestamp() if moment else None)
        return due

    def _synchronise(self, database: str) -> None:
        if database != databases.default():
            return
        try:
            done = schedules.synchronise(database)
        except (ValidationError, WellosJobsError) as error:
            logger.error("a declared schedule cannot be meant, none was synchronised: %s", error)
            return
        logger.info("schedules: %s", done)

    def _guarded(self, work: Callable[[], Any]) -> float:
        """Do something; when Redis or a database is away, say so and wait a little longer each time."""
        try:
            result = work()
            self._pause = 0.0
            return float(result or 0.0)
        except redis.Unavailable as error:
            logger.warning("clock: Redis is away: %s", error)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("clock: a database is away or refuses: %s", error)
            connections.close_all()
            self._databases = None
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or 0.1)
        if not self.stopping:
            time.sleep(self._pause)
        return 0.0

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
