"""Housekeeping: the repair loops, run by the leader of a Redis. Each is idempotent.

drain (events to rows) · relay (rows to Redis) · rebuild (lost by Redis) · prune (old rows)

The fifth loop, reap (jobs of dead workers), is in the supervisor: it must not wait for a database.
"""

from __future__ import annotations

import logging
import time
import uuid
from types import FrameType

from .. import broker, conf
from ..alerts import backlog
from ..broker import events, rq_workers, sentinels, server_identity
from ..database import job_databases
from ..ledger.ledger import NewEpoch
from ..processes.growing_pause import GrowingPause
from ..processes.intervals import IntervalTimer
from ..processes.shared_memory import Slot
from ..processes.stop_signals import on_stop
from .per_database import DatabaseMaintenance

logger = logging.getLogger("wellos_jobs")

SECOND = 1.0
BEAT_EVERY = 5.0
QUEUES_EVERY = 10.0
PRUNE_EVERY = 600.0
REBUILD_EVERY = 3600.0
"""A job's hash can be evicted or deleted while Redis runs: look for that, too."""
ALERT_EVERY = 3600.0
LONGEST_PAUSE = 1.0


class Housekeeping:
    """The leader's maintenance of one Redis and all databases."""

    def __init__(self, source: str, slot: Slot) -> None:
        self.source = source
        self.slot = slot
        self.connection = broker.source_client(source, "ledger")
        self.queues = broker.sources()[source]
        self.databases = [
            DatabaseMaintenance(source, database, self.queues, self.connection)
            for database in job_databases()
        ]
        for database in self.databases:
            database.meet(self.databases)

        self.epoch = ""
        self.server_run = ""
        self._trusted = ""
        """The server run that this process has let workers claim from."""
        self.stopping = False
        self._trimmed = ""
        """The position up to which this process has trimmed the stream."""
        self.intervals = IntervalTimer()
        self._retry_pause = GrowingPause(0.1, LONGEST_PAUSE)

    def run(self) -> int:
        """Run until a stop signal, then apply the remaining events and return."""
        on_stop(self._on_stop)
        sentinels.while_connecting(self.slot.beat)
        while True:
            self.slot.beat()
            last_round = self.stopping
            try:
                with broker.refusals_as_unavailable():
                    self.round()
                self._retry_pause.reset()
            except broker.Unavailable as error:
                logger.warning("housekeeping: Redis is unavailable: %s", error)
                self.intervals.make_due("look")
                time.sleep(self._retry_pause.next())
            if last_round:
                return 0

    def last_look(self) -> int:
        """Apply the events that are there and return."""
        self.stopping = True
        return self.run()

    def round(self) -> None:
        """Do what is due once; if there is nothing, wait up to half a second for the next event."""
        if self.intervals.is_due("look", SECOND):
            self._look_at_redis()
        try:
            drained = sum(
                [
                    database.drain(self.epoch, self.slot.beat, self.server_run)
                    for database in self.databases
                ]
            )
        except NewEpoch:
            self.intervals.make_due("look")
            return

        self._trust()
        self._trim()
        self._watch_stream()
        for database in self.databases:
            database.heal()
        if self.intervals.is_due("rebuild", REBUILD_EVERY):
            for database in self.databases:
                database.rebuild()
        if self.intervals.is_due("prune", PRUNE_EVERY):
            self._prune()
        if self.intervals.is_due("queues", QUEUES_EVERY):  # last: a full Redis refuses a new alert
            backlog.watch(self.connection, self.queues)

        busy = drained or any(database.is_busy for database in self.databases)
        if not busy and not self.stopping:
            self._wait()

    # --- the stream -------------------------------------------------------------------------------

    def _trim(self) -> None:
        """Drop the events that every database has committed; one that is unavailable keeps them."""
        places = [database.position for database in self.databases if database.has_table]
        upto = events.earliest(places) if places else events.START
        if upto not in (events.START, self._trimmed):
            events.trim(self.connection, upto)
            self._trimmed = upto

    def _watch_stream(self) -> None:
        behind = events.backlog(self.connection)
        if behind > conf.current().stream_max and self.intervals.is_due("alert", ALERT_EVERY):
            text = (
                f"{behind} events of {self.source} are not in the database yet, more than "
                "STREAM_MAX: is a database slow?"
            )
            logger.error(text)
            backlog.alert_admins("Job ledger is behind", text)

    def _wait(self) -> None:
        places = [database.position for database in self.databases if database.is_open]
        if places:
            events.wait(
                broker.source_client(self.source, "block"), events.earliest(places), SECOND / 2
            )
        else:  # no database is available
            time.sleep(SECOND / 4)

    def _prune(self) -> None:
        rq_workers.sweep(self.connection, self.queues)
        for database in self.databases:
            self.slot.beat()
            database.prune()

    # --- lost data in Redis -----------------------------------------------------------------------

    def _look_at_redis(self) -> None:
        """Detect that Redis has lost data.

        It is empty (no epoch), holds older data (its beat is older than the row's), or is another
        server run (the last second may be lost).
        """
        connection = broker.source_client(self.source, "work")  # to whichever run there is
        beats = self.intervals.is_due("beat", BEAT_EVERY)
        server_run = server_identity.identity(connection)
        reply = broker.run(connection, "pulse", uuid.uuid4().hex, "1" if beats else "")
        epoch, before, now = (broker.text(part) for part in reply)

        self._note_epoch(epoch)
        self._note_server_run(server_run)
        if beats:
            for database in self.databases:
                database.pulse(float(before or 0.0), float(now))

    def _note_epoch(self, epoch: str) -> None:
        if epoch != self.epoch:
            if self.epoch:
                logger.warning(
                    "Redis %s has come back empty: rebuilding it from the rows", self.source
                )
            for database in self.databases:
                database.close()
            self._trusted = ""
        self.epoch = epoch

    def _note_server_run(self, server_run: str) -> None:
        if server_run == self.server_run:
            return
        if self.server_run:
            logger.warning(
                "Redis %s was restarted, or another server took its place: comparing its data "
                "with the rows",
                self.source,
            )
        for database in self.databases:
            database.close()
        server_identity.expect(self.source, server_run)
        self.server_run = server_run

    def _trust(self) -> None:
        """Let workers claim from a new server run, once the rows have corrected its data."""
        if self._trusted == self.server_run:
            return
        if all(database.is_compared for database in self.databases):
            broker.run(self.connection, "trust", self.server_run)
            self._trusted = self.server_run

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
