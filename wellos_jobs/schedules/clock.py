"""The clock: the leader of all `rqscheduler` processes runs schedules and rq-scheduler's entries.

It sleeps until the next due time or a wakeup, and survives outages of Redis and databases.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Protocol

from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone

from .. import broker, installation
from ..broker import scheduler_wakeup
from ..database import default_database, has_job_table, job_databases, retry_conflicts
from ..processes.growing_pause import GrowingPause
from ..processes.shared_memory import Slot
from ..processes.stop_signals import on_stop, restore
from . import api, ticks

logger = logging.getLogger("wellos_jobs")

LOCK_MS = 5_000
RENEW_EVERY = 1.0
"""Seconds after which a long pass renews the lock."""

STANDBY = 1.0
LONGEST_SLEEP = 1.0

LOCKED_PAUSE = 0.05
"""Pause before a due schedule is tried again that another transaction has locked."""

RETRY_EVERY = 60.0
"""Interval between retries of schedules that were set aside."""

REPLAN_EVERY = 10.0
"""Interval between looks for changes by SQL: shorter than the time after which a run is missed."""

LOOK_FOR_TABLE_EVERY = 10.0

MEET_EVERY = 10.0
"""Interval between looks whether the database is a copy that belongs elsewhere."""
LONGEST_PAUSE = 2.0


class LeadershipLost(Exception):
    """Another process has become the leader during a pass."""


class EntryScheduler(Protocol):
    """What the clock needs of a scheduler. ``clock`` returns Unix seconds."""

    clock: Callable[[], float]

    def serve(self, renew: Callable[[], None]) -> float | None:
        """Enqueue due entries; return when the next is due. ``renew`` is called in between."""


class DatabaseSchedules:
    """The schedules of one database. While it is unavailable, it is retried with growing pauses."""

    def __init__(self, database: str, clock: Callable[[], float], source: str) -> None:
        self.database = database
        self.source = source
        self.clock = clock
        self._has_table = False
        self._synchronized = database != default_database()
        self._next_retry = 0.0
        self._next_replan = 0.0
        self._next_meeting = 0.0
        self._not_before = 0.0
        self._retry_pause = GrowingPause(0.1, LONGEST_PAUSE)

    def serve(self, renew: Callable[[], None]) -> float | None:
        """Run due schedules; return when the next is due (Unix seconds), None if unknown."""
        if time.monotonic() < self._not_before:
            return None
        try:
            due = retry_conflicts(self.database, lambda: self._serve(renew))
        except (DatabaseError, InterfaceError) as error:
            self._not_before = time.monotonic() + self._retry_pause.next()
            logger.warning("clock: database %s is unavailable or refuses: %s", self.database, error)
            connections[self.database].close()
            self._next_meeting = 0.0  # it may come back as a copy of another one
            return None
        self._retry_pause.reset()
        return due

    def _serve(self, renew: Callable[[], None]) -> float | None:
        if not self._is_ready():
            return None

        if time.monotonic() >= self._next_retry:
            ticks.retry_broken(self.database, self._now())
            self._next_retry = time.monotonic() + RETRY_EVERY

        if time.monotonic() >= self._next_replan:
            now = self._now()
            ticks.replan(self.database, now, max(now, timezone.now()))
            self._next_replan = time.monotonic() + REPLAN_EVERY

        due = ticks.next_due(self.database)
        if due is not None and due <= self._now():
            ticks.tick(self.database, self._now(), renew)
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

        if time.monotonic() >= self._next_meeting:
            finding = installation.meet(self.database, self.source)
            if not finding.verdict.may_run:
                logger.error("%s", finding.problem)
                self._not_before = time.monotonic() + MEET_EVERY
                return False
            self._next_meeting = time.monotonic() + MEET_EVERY

        if not self._synchronized:
            self._synchronize()
        return True

    def _synchronize(self) -> None:
        done = api.synchronize(self.database)
        for change in ("created", "changed", "disabled"):
            if names := getattr(done, change):
                logger.info("declared schedules: %s %s", change, ", ".join(names))
        for name, reason in done.failed.items():
            logger.error("declared schedule %r is invalid, its row is unchanged: %s", name, reason)
        self._synchronized = True

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), tz=UTC)


class Clock:
    """One process's clock. ``scheduler`` serves rq-scheduler's entries and provides the time."""

    def __init__(self, source: str, scheduler: EntryScheduler, slot: Slot | None = None) -> None:
        self.source = source
        self.slot = slot or Slot()
        self.connection = broker.source_client(source, "work")
        self.scheduler = scheduler
        self.databases = [
            DatabaseSchedules(database, scheduler.clock, source) for database in job_databases()
        ]
        self.token = uuid.uuid4().hex
        self.stopping = False
        self.leading = False
        self._renewed_at = 0.0
        self._retry_pause = GrowingPause(0.1, LONGEST_PAUSE)

    def run(self, burst: bool = False) -> int:
        """Run until a stop signal; with ``burst``, one pass.

        Signals take effect between passes.
        """
        before = on_stop(self._on_stop)
        try:
            while not self.stopping:
                self.slot.beat()
                if burst:
                    self._with_redis(self.one_pass)
                    break
                self._with_redis(lambda: self._sleep(self.one_pass()))

            self._with_redis(lambda: broker.run(self.connection, "resign", "clock", self.token))
        finally:
            restore(before)

        return 0

    def one_pass(self) -> float | None:
        """Run what is due if this process leads; return seconds to sleep, None if not leading."""
        if not self._lead():
            return None

        try:
            due = [
                self._serve_entries(),
                *(database.serve(self._renew) for database in self.databases),
            ]
        except LeadershipLost:
            logger.warning("clock: another process became the leader during a long pass")
            self.leading = False
            return None

        times = [moment for moment in due if moment is not None]
        if not times:
            return LONGEST_SLEEP
        return min(LONGEST_SLEEP, max(0.0, min(times) - self.scheduler.clock()))

    def _lead(self) -> bool:
        led = self.leading
        self.leading = bool(broker.run(self.connection, "lead", "clock", self.token, LOCK_MS))
        self._renewed_at = time.monotonic()
        if self.leading and not led:
            logger.info("clock: leading")
        return self.leading

    def _renew(self) -> None:
        """Record a heartbeat and renew the lock, during a long pass."""
        self.slot.beat()
        if time.monotonic() - self._renewed_at > RENEW_EVERY and not self._lead():
            raise LeadershipLost

    def _serve_entries(self) -> float | None:
        try:
            with broker.refusals_as_unavailable():
                return self.scheduler.serve(self._renew)
        except broker.Unavailable:
            raise
        except broker.Error as error:  # such as a key of the wrong type: schedules must go on
            logger.error("scheduler: its entries cannot be served: %s", error)
            return None

    def _sleep(self, seconds: float | None) -> None:
        if self.stopping:
            return
        if seconds is None:
            time.sleep(STANDBY)  # not on a wakeup, which is for the leader
        else:
            scheduler_wakeup.wait(self.source, seconds)

    def _with_redis(self, work: Callable[[], Any]) -> None:
        """Call ``work``; while Redis is unavailable, log it and pause a little longer each time."""
        try:
            with broker.refusals_as_unavailable():
                work()
            self._retry_pause.reset()
        except broker.Unavailable as error:
            logger.warning("clock: Redis is unavailable: %s", error)
            self.leading = False
            if not self.stopping:
                time.sleep(self._retry_pause.next())

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
