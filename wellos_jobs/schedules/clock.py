"""The clock's loop: one leader among all `rqscheduler` processes serves schedules and rq-scheduler's entries.

It sleeps until the next due time or until the alarm rings, and survives Redis and databases that
are away.
"""

from __future__ import annotations

import logging
import signal
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Protocol

from django.db import DatabaseError, InterfaceError, connections

from .. import broker
from ..broker import wakeup
from ..database import default_database, has_job_table, job_databases
from ..processes.slot import Slot
from . import api, ticks

logger = logging.getLogger("wellos_jobs")

LOCK_MS = 5_000
KEEP_EVERY = 1.0
"""Seconds after which a long pass renews the lock."""
STANDBY = 1.0
LONGEST_SLEEP = 1.0
LOCKED_PAUSE = 0.05
"""How long a schedule waits that is due while another transaction is changing it."""
RETRY_EVERY = 60.0
"""How often schedules that were put aside are tried again."""
LOOK_FOR_TABLE_EVERY = 10.0
LONGEST_PAUSE = 2.0


class Deposed(Exception):
    """Another process has taken the lead in mid-pass."""


class Served(Protocol):
    """What the clock needs of a scheduler: to serve its own entries, and to tell the time (Unix seconds)."""

    clock: Callable[[], float]

    def serve(self, keep: Callable[[], None]) -> float | None:
        """Enqueue what is due; return when the next entry is due. ``keep`` is called now and then."""


class Calendar:
    """The schedules of one database. One that is away is left alone for a little longer each time."""

    def __init__(self, database: str, clock: Callable[[], float]) -> None:
        self.database = database
        self.clock = clock
        self._has_table = False
        self._synchronised = database != default_database()
        self._next_retry = 0.0
        self._not_before = 0.0
        self._pause = 0.0

    def serve(self, keep: Callable[[], None]) -> float | None:
        """Make the ticks that are due; return when the next is due (Unix seconds), None when that is unknown."""
        if time.monotonic() < self._not_before:
            return None
        try:
            due = self._serve(keep)
        except (DatabaseError, InterfaceError) as error:
            self._pause = min(LONGEST_PAUSE, self._pause * 2 or 0.1)
            self._not_before = time.monotonic() + self._pause
            logger.warning("clock: database %s is away or refuses: %s", self.database, error)
            connections[self.database].close()
            return None
        self._pause = 0.0
        return due

    def _serve(self, keep: Callable[[], None]) -> float | None:
        if not self._is_ready():
            return None
        if time.monotonic() >= self._next_retry:
            ticks.retry(self.database, self._now())
            self._next_retry = time.monotonic() + RETRY_EVERY
        due = ticks.next_due(self.database)
        if due is not None and due <= self._now():
            ticks.tick(self.database, self._now(), keep)
            due = ticks.next_due(self.database)
        if due is not None and due <= self._now():
            return self.clock() + LOCKED_PAUSE
        return None if due is None else due.timestamp()

    def _is_ready(self) -> bool:
        if not self._has_table:
            self._has_table = has_job_table(self.database)
            if not self._has_table:
                self._not_before = time.monotonic() + LOOK_FOR_TABLE_EVERY
                return False
        if not self._synchronised:
            self._synchronise()
        return True

    def _synchronise(self) -> None:
        done = api.synchronise(self.database)
        for verb in ("created", "changed", "disabled"):
            if names := getattr(done, verb):
                logger.info("declared schedules: %s %s", verb, ", ".join(names))
        for name, reason in done.failed.items():
            logger.error(
                "declared schedule %r cannot be meant and is left as it was: %s", name, reason
            )
        self._synchronised = True

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), tz=UTC)


class Clock:
    """One process's clock. ``scheduler`` serves rq-scheduler's entries and tells the time."""

    def __init__(self, source: str, scheduler: Served, slot: Slot | None = None) -> None:
        self.source = source
        self.slot = slot or Slot()
        self.connection = broker.source_client(source, "work")
        self.scheduler = scheduler
        self.calendars = [Calendar(database, scheduler.clock) for database in job_databases()]
        self.token = uuid.uuid4().hex
        self.stopping = False
        self.leading = False
        self._kept_at = 0.0
        self._pause = 0.0

    def run(self, burst: bool = False) -> int:
        """Run until SIGTERM or SIGINT; with ``burst`` serve once. Signals take effect between two passes only."""
        before = {
            number: signal.signal(number, self._on_stop)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            while not self.stopping:
                self.slot.beat()
                self._with_redis(
                    lambda: self._rest(self.one_pass()) if not burst else self.one_pass()
                )
                if burst:
                    break
            self._with_redis(lambda: broker.run(self.connection, "resign", "clock", self.token))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return 0

    def one_pass(self) -> float | None:
        """Serve what is due if this process leads; return how long to sleep, in seconds, None if it does not lead."""
        if not self._lead():
            return None
        try:
            due = [
                self._serve_entries(),
                *(calendar.serve(self._keep) for calendar in self.calendars),
            ]
        except Deposed:
            logger.warning("clock: a pass took so long that another process leads")
            self.leading = False
            return None
        times = [moment for moment in due if moment is not None]
        return min(
            LONGEST_SLEEP, max(0.0, min(times, default=float("inf")) - self.scheduler.clock())
        )

    def _lead(self) -> bool:
        led = self.leading
        self.leading = bool(broker.run(self.connection, "lead", "clock", self.token, LOCK_MS))
        self._kept_at = time.monotonic()
        if self.leading and not led:
            logger.info("clock: leading")
        return self.leading

    def _keep(self) -> None:
        """In a long pass: show a sign of life and renew the lock."""
        self.slot.beat()
        if time.monotonic() - self._kept_at > KEEP_EVERY and not self._lead():
            raise Deposed

    def _serve_entries(self) -> float | None:
        try:
            with broker.refusals_as_away():
                return self.scheduler.serve(self._keep)
        except broker.Unavailable:
            raise
        except (
            broker.Error
        ) as error:  # as when a key holds what it should not: the calendar goes on
            logger.error("scheduler: its entries cannot be served: %s", error)
            return None

    def _rest(self, seconds: float | None) -> None:
        if self.stopping:
            return
        if seconds is None:
            time.sleep(STANDBY)  # not on the alarm, which is for the leader
        else:
            wakeup.wait(self.source, seconds)

    def _with_redis(self, work: Callable[[], Any]) -> None:
        """Do something; when Redis is away, say so and wait a little longer each time."""
        try:
            with broker.refusals_as_away():
                work()
            self._pause = 0.0
        except broker.Unavailable as error:
            logger.warning("clock: Redis is away: %s", error)
            self.leading = False
            self._pause = min(LONGEST_PAUSE, self._pause * 2 or 0.1)
            if not self.stopping:
                time.sleep(self._pause)

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
