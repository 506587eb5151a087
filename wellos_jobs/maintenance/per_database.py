"""Maintenance of one database: its ledger, relay, rebuild and prune.

Databases are independent: an unavailable one is retried with growing pauses while the others are
served.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis as redis_py
from django.db import DatabaseError, InterfaceError, connections

from .. import broker, installation
from ..broker import events, keys
from ..database import has_job_table, is_usable, retry_conflicts
from ..definitions import ids
from ..enqueueing import dependencies, replacement
from ..ledger.ledger import FORGET_AFTER, Ledger, Overtaken
from ..models import JobRecord
from ..processes.growing_pause import GrowingPause
from ..states import FINAL_STATES
from . import prune, relay, restore_settings, stale_jobs
from .held_rows import HeldRows
from .relay import Rebuild

logger = logging.getLogger("wellos_jobs")

DRAIN_SECONDS = 1.0
"""Longest time one call of ``drain`` takes, so that the other loops are not held up."""

RELAY_EVERY = 1.0
UNBLOCK_EVERY = 10.0
LOOK_FOR_TABLE_EVERY = 60.0
LOOK_FOR_OWNER_EVERY = 10.0
LONGEST_PAUSE = 5.0
LEFTOVERS = 1_000
"""Ended jobs of one registry looked at in one pass."""


class DatabaseMaintenance:
    """Keeps one database and one Redis in step."""

    def __init__(
        self, source: str, database: str, queues: Sequence[str], connection: redis_py.Redis
    ) -> None:
        self.source = source
        self.database = database
        self.queues = queues
        self.connection = connection
        self.ledger = Ledger(source, database, connection)
        self.has_table = True
        self.twin_of: DatabaseMaintenance | None = None
        """The one that does all but the ledger, when both aliases lead to the same database."""
        self._others: Sequence[DatabaseMaintenance] = ()
        self.at_end = False
        self._rebuild: Rebuild | None = None
        self.is_open = False
        self._prunes = False
        self._held_rows = HeldRows()
        self._retry_pause = GrowingPause(0.25, LONGEST_PAUSE)
        self._not_before = 0.0
        self._next_relay = 0.0
        self._next_unblock = 0.0

    @property
    def position(self) -> str:
        """The position up to which events are applied; the stream's start while not open."""
        return self.ledger.position if self.is_open else events.START

    @property
    def is_busy(self) -> bool:
        """Whether there is more to do right away."""
        return self.is_open and (not self.at_end or self._rebuild is not None or self._prunes)

    @property
    def is_compared(self) -> bool:
        """Whether the rows have corrected what this run of Redis believes of their jobs."""
        return not self.has_table or (self.is_open and not self.ledger.is_new_run)

    def meet(self, others: Sequence[DatabaseMaintenance]) -> None:
        """Tell it of all the databases of this Redis, in their order."""
        self._others = [other for other in others if other is not self]

    def drain(self, epoch: str, beat: Callable[[], None], server_run: str = "") -> int:
        """Apply events for up to ``DRAIN_SECONDS``; return how many. Calls ``beat`` in between.

        A ``server_run`` that is new here is first compared with the rows.

        Raises:
            NewEpoch: Redis has come back empty.
        """
        return self._guarded(lambda: self._drain(epoch, server_run, beat)) or 0

    def heal(self) -> None:
        """Relay, rebuild and prune a little, once the ledger has reached the stream's end.

        Before that the rows are outdated: a job that seems lost may only be on its way.
        """
        if self._does_all and self.at_end and all(twin.at_end for twin in self._twins()):
            self._guarded(self._heal)

    def pulse(self, before: float, now: float) -> None:
        """Compare the leader's previous beat in Redis with the row's, and store the new one."""
        if self.is_open:
            self._guarded(lambda: self._pulse(before, now))

    def prune(self) -> None:
        """Start to delete rows past their retention, one batch per ``heal``.

        Also expire ended jobs that a killed ledger left in Redis.
        """
        self._prunes = self.twin_of is None
        if self._does_all:
            self._guarded(self._forget_leftovers)

    def rebuild(self) -> None:
        """Begin to compare every open row with what Redis has of its job."""
        if self.twin_of is not None:
            return
        self._rebuild = Rebuild(self.database, self.queues, self.connection, self.ledger.close)

    def close(self) -> None:
        """Drop the ledger's position: the next ``drain`` reads the cursor again."""
        self.is_open = self.at_end = False
        self.twin_of = None
        for twin in self._twins():
            twin.twin_of = None
            twin.rebuild()

    def _twins(self) -> list[DatabaseMaintenance]:
        return [other for other in self._others if other.twin_of is self]

    # --- the work ---------------------------------------------------------------------------------

    def _guarded(self, duty: Callable[[], int | None]) -> int | None:
        if time.monotonic() < self._not_before:
            return None
        try:
            result = retry_conflicts(self.database, duty)
        except (DatabaseError, InterfaceError) as error:
            self._not_before = time.monotonic() + self._retry_pause.next()
            logger.warning(
                "housekeeping: database %s is unavailable or refuses: %s", self.database, error
            )
            self.close()
            connections[self.database].close()
            return None
        self._retry_pause.reset()
        return result

    def _open(self, epoch: str, server_run: str) -> bool:
        if self.is_open:
            return True

        self.has_table = has_job_table(self.database)
        if not self.has_table:
            self._not_before = time.monotonic() + LOOK_FOR_TABLE_EVERY
            return False

        finding = installation.meet(self.database, self.source)
        if not finding.verdict.may_run:
            self._stay_away(finding)
            return False

        if self.ledger.is_new(epoch):
            # Before the cursor stores the epoch: otherwise a crash in between would skip it.
            restore_settings.restore(self.database, self.queues, self.connection)
        self.ledger.open(epoch, server_run)
        self._find_twin()
        self.rebuild()
        self.is_open = True
        return True

    def _stay_away(self, finding: installation.Finding) -> None:
        logger.error("%s", finding.problem)
        self.close()
        self._not_before = time.monotonic() + LOOK_FOR_OWNER_EVERY

    @property
    def _does_all(self) -> bool:
        return self.is_open and self.twin_of is None

    def _find_twin(self) -> None:
        """See whether one of the others keeps this same database already, through another alias."""
        for other in self._others:
            if other._does_all and self.ledger.is_also(other.database):
                self.twin_of, self._rebuild, self._prunes = other, None, False
                logger.info("%s and %s are one database", other.database, self.database)
                return

    def _drain(self, epoch: str, server_run: str, beat: Callable[[], None]) -> int:
        if not self._open(epoch, server_run):
            return 0
        if self.ledger.is_new_run:
            for _ in stale_jobs.correct(self.database, self.queues, self.connection):
                beat()
            self.ledger.accept(server_run)

        self.at_end = False
        drained = 0
        until = time.monotonic() + DRAIN_SECONDS
        while not self.at_end and time.monotonic() < until:
            beat()
            try:
                count = self.ledger.drain()
            except Overtaken:
                logger.info("ledger of %s: another process was faster", self.database)
                self.ledger.open(epoch, server_run)
                continue
            drained += count
            self.at_end = self.ledger.at_end
        return drained

    def _heal(self) -> None:
        """Do a little of each. What a full Redis may refuse comes last."""
        if self._prunes:
            self._prune_a_batch()

        if time.monotonic() >= self._next_unblock:
            dependencies.heal(self.database)
            self._next_unblock = time.monotonic() + UNBLOCK_EVERY

        if self._rebuild is not None and not self._step(self._rebuild):
            self._rebuild = None

        if time.monotonic() >= self._next_relay:
            replacement.finish(self.database, self.queues)  # first: replaced jobs are not pushed
            relay.relay(self.database, self.queues, self.connection)
            self._next_relay = time.monotonic() + RELAY_EVERY

    def _prune_a_batch(self) -> None:
        """Delete a batch of old rows.

        An error while the database answers concerns these rows, as when a receiver cannot reach
        another database: the next prune tries them again.
        """
        self._held_rows.has_new = False
        try:
            deleted = prune.prune(self.database, most=1, held=self._held_rows)
        except (DatabaseError, InterfaceError) as error:
            if not is_usable(self.database):
                raise
            self._prunes = False
            logger.warning("prune: old rows of %s stay for now: %s", self.database, error)
            return
        self._prunes = any(deleted.values()) or self._held_rows.has_new

    def _step(self, rebuild: Rebuild) -> bool:
        try:
            return rebuild.step()
        except Overtaken:
            logger.info("ledger of %s: another process was faster", self.database)
            self.close()
            return False

    def _pulse(self, before: float, now: float) -> None:
        # Another database may have been restored under the running processes.
        finding = installation.meet(self.database, self.source)
        if not finding.verdict.may_run:
            self._stay_away(finding)
            return

        if self.ledger.beat(now) > before + 0.001:
            logger.warning(
                "Redis has come back with older data: comparing it with the rows of %s",
                self.database,
            )
            self.ledger.doubt()
            self.close()

    def _forget_leftovers(self) -> None:
        for queue in self.queues:
            for registry in (keys.finished(queue), keys.failed(queue), keys.canceled(queue)):
                self._forget_leftovers_of(registry)

    def _forget_leftovers_of(self, registry: str) -> None:
        """Expire ended jobs whose ledger died between its commit and setting their time to live."""
        found: Any = self.connection.zrangebyscore(
            registry, keys.FAR, "+inf", start=0, num=LEFTOVERS
        )
        known = {ids.parse_id(text): text for text in map(broker.text, found)}
        rows = JobRecord.objects.using(self.database).filter(state__in=FINAL_STATES)
        stored = [known[pk] for pk in rows.in_bulk([pk for pk in known if pk is not None])]
        if stored:
            broker.run(self.connection, "forget", FORGET_AFTER, *stored)
