"""Housekeeping: the loops that heal, run by the one leader of a Redis. Each is idempotent, so two leaders do no harm.

drain (events to rows) · relay (rows to Redis) · rebuild (Redis forgot) · prune (old rows)

The fifth, reap (claims of the dead), is the supervisor's own: it must not wait for a database.
"""

from __future__ import annotations

import logging
import signal
import time
import uuid
from types import FrameType

from .. import broker, conf
from ..broker import events, rq_workers
from ..database import job_databases
from ..ledger.ledger import NewEpoch
from ..processes.intervals import Rota
from ..processes.slot import Slot
from . import backlog
from .alerts import tell_admins
from .per_database import Bookkeeper

logger = logging.getLogger("wellos_jobs")

SECOND = 1.0
BEAT_EVERY = 5.0
QUEUES_EVERY = 10.0
PRUNE_EVERY = 600.0
ALERT_EVERY = 3600.0
LONGEST_PAUSE = 1.0


class Housekeeping:
    """The leader's work for one Redis and all databases."""

    def __init__(self, source: str, slot: Slot) -> None:
        self.source = source
        self.slot = slot
        self.connection = broker.source_client(source, "work")
        self.queues = broker.sources()[source]
        self.bookkeepers = [
            Bookkeeper(source, database, self.queues, self.connection)
            for database in job_databases()
        ]
        self.epoch = ""
        self.server_run = ""
        self.stopping = False
        self._trimmed = ""
        """Up to where the stream was trimmed by this process: one before may have died before it did."""
        self.rota = Rota()
        self._pause = 0.0

    def run(self) -> int:
        """Work until SIGTERM, then fold what is left and return."""
        signal.signal(signal.SIGTERM, self._on_stop)
        while True:
            self.slot.beat()
            last_round = self.stopping
            try:
                with broker.refusals_as_away():
                    self.round()
                self._pause = 0.0
            except broker.Unavailable as error:
                logger.warning("housekeeping: Redis is away: %s", error)
                self._pause = min(LONGEST_PAUSE, self._pause * 2 or 0.1)
                time.sleep(self._pause)
            if last_round:
                return 0

    def last_look(self) -> int:
        """Fold what is there and return."""
        self.stopping = True
        return self.run()

    def round(self) -> None:
        """Do once what is due; when nothing is, wait for the next event or the next half second."""
        if self.rota.is_due("look", SECOND):
            self._look_at_redis()
        try:
            drained = sum([keeper.drain(self.epoch, self.slot.beat) for keeper in self.bookkeepers])
        except NewEpoch:
            self.rota.hasten("look")
            return
        self._trim()
        self._watch_backlog()
        if self.rota.is_due("queues", QUEUES_EVERY):
            backlog.watch(self.connection, self.queues)
        for keeper in self.bookkeepers:
            keeper.heal()
        if self.rota.is_due("prune", PRUNE_EVERY):
            self._prune()
        if (
            not drained
            and not self.stopping
            and not any(keeper.is_busy for keeper in self.bookkeepers)
        ):
            self._wait()

    # --- the stream -------------------------------------------------------------------------------

    def _trim(self) -> None:
        """Drop the events that all databases have committed; a database that is away holds them."""
        places = [keeper.position for keeper in self.bookkeepers if keeper.has_table]
        upto = events.earliest(places) if places else events.START
        if upto not in (events.START, self._trimmed):
            events.trim(self.connection, upto)
            self._trimmed = upto

    def _watch_backlog(self) -> None:
        behind = events.backlog(self.connection)
        if behind > conf.current().stream_max and self.rota.is_due("alert", ALERT_EVERY):
            text = f"{behind} events of {self.source} wait for the ledger, more than STREAM_MAX: is a database slow?"
            logger.error(text)
            tell_admins("Job ledger is behind", text)

    def _wait(self) -> None:
        places = [keeper.position for keeper in self.bookkeepers if keeper.is_open]
        if places:
            events.wait(
                broker.source_client(self.source, "block"), events.earliest(places), SECOND / 2
            )
        else:  # no database is there
            time.sleep(SECOND / 4)

    def _prune(self) -> None:
        rq_workers.sweep(self.connection, self.queues)
        for keeper in self.bookkeepers:
            self.slot.beat()
            keeper.prune()

    # --- what has become of Redis -----------------------------------------------------------------

    def _look_at_redis(self) -> None:
        """Notice a Redis that came back empty (no epoch), with older data (an older beat than the row's), or at all
        (another run of the server may have lost its last second)."""
        beats = self.rota.is_due("beat", BEAT_EVERY)
        reply = broker.run(self.connection, "pulse", uuid.uuid4().hex, "1" if beats else "")
        epoch, before, now = (broker.text(part) for part in reply)
        if epoch != self.epoch:
            if self.epoch:
                logger.warning(
                    "Redis %s has come back empty: rebuilding it from the rows", self.source
                )
            for keeper in self.bookkeepers:
                keeper.close()
        self.epoch = epoch
        server_run = str(self.connection.info("server")["run_id"])
        if self.server_run and server_run != self.server_run:
            logger.warning("Redis %s was restarted: looking for lost jobs", self.source)
            for keeper in self.bookkeepers:
                keeper.rebuild()
        self.server_run = server_run
        if beats:
            for keeper in self.bookkeepers:
                keeper.pulse(float(before or 0.0), float(now))

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
