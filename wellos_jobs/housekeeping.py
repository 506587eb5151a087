"""Housekeeping: the loops that heal, run by the one leader of a Redis. Each is idempotent, so two leaders do no harm.

drain (events to rows) · relay (rows to Redis) · reap (claims of the dead) · rebuild (Redis forgot) · prune (old rows)
"""

from __future__ import annotations

import logging
import signal
import time
import uuid
from collections.abc import Callable
from types import FrameType

from django.core.mail import mail_admins
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from . import claims, conf, databases, events, keys, prune, redis, registration, relay
from .ledger import Ledger, NewEpoch, Overtaken
from .relay import Rebuild
from .slots import Slot
from .supervision import announce_rescue

logger = logging.getLogger("wellos_jobs")

SECOND = 1.0
BEAT_EVERY = 5.0
PRUNE_EVERY = 600.0
REAP_GRACE = 6.0
"""Seconds of an unbroken connection before leases count as run out: supervisors renew every five."""
ALERT_EVERY = 3600.0
LONGEST_PAUSE = 5.0


class Housekeeping:
    """The leader's work for one Redis and all databases."""

    def __init__(self, source: str, slot: Slot) -> None:
        self.source = source
        self.slot = slot
        self.connection = redis.source_client(source, "work")
        self.queues = redis.sources()[source]
        self.ledgers: dict[str, Ledger] = {}
        self.rebuilds: dict[str, Rebuild] = {}
        self.epoch = ""
        self.server_run = ""
        self.stopping = False
        self._due: dict[str, float] = {}
        self._connected_since = time.monotonic()
        self._pause = 0.0

    def run(self) -> int:
        """Work until SIGTERM, then fold what is left and return."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            self.slot.beat()
            last_round = self.stopping
            self._guarded(self.round)
            if last_round:
                return 0

    def round(self) -> None:
        """Do once what is due; when nothing is, wait for the next event or the next second."""
        self._check_epoch()
        self._open_ledgers()
        if self._is_due("reap", SECOND) and time.monotonic() - self._connected_since > REAP_GRACE:
            self.reap()
        drained, at_end = self.drain()
        if at_end:  # else the rows are behind, and what they lack may be on its way
            self.rebuild()
            if self._is_due("relay", SECOND):
                self.relay()
        if self._is_due("prune", PRUNE_EVERY):
            self.prune()
        if not drained and not self.rebuilds and not self.stopping and self.ledgers:
            earliest = events.earliest(ledger.position for ledger in self.ledgers.values())
            events.wait(redis.source_client(self.source, "block"), earliest, SECOND / 2)

    # --- the loops ----------------------------------------------------------------------------------

    def drain(self) -> tuple[int, bool]:
        """Fold for a second at most, and trim what all ledgers have.

        Returns how many events were folded and whether every ledger has reached the stream's end.
        """
        drained, at_end, until = 0, bool(self.ledgers), time.monotonic() + SECOND
        for ledger in self.ledgers.values():
            count = 1
            while count and time.monotonic() < until:
                self.slot.beat()
                try:
                    count = ledger.drain()
                    drained += count
                except Overtaken:
                    logger.info("ledger of %s: another process was faster", ledger.database)
                    ledger.open(self.epoch)
                except NewEpoch:
                    self._due.pop("epoch", None)
                    return drained, False
            at_end = at_end and not count
        if drained and len(self.ledgers) == len(self._wanted()):
            events.trim(self.connection, events.earliest(ledger.position for ledger in self.ledgers.values()))
        self._watch_backlog()
        return drained, at_end

    def relay(self) -> None:
        """Push committed rows that never reached Redis."""
        for database in self.ledgers:
            relay.relay(database, self.queues, self.connection)

    def rebuild(self) -> None:
        """Take the next step of each rebuild that is under way."""
        for database, rebuild in list(self.rebuilds.items()):
            if database in self.ledgers and not rebuild.step():
                del self.rebuilds[database]

    def reap(self) -> None:
        """End the claims whose lease has run out: their machine is dead."""
        message = "its worker stopped renewing the lease"
        for job in claims.rescue(self.connection, "crashed", message):
            announce_rescue(job, message)

    def prune(self) -> None:
        """Delete rows past their retention, and what is dead in RQ's sets."""
        registration.sweep(self.connection, self.queues)
        for database in self.ledgers:
            prune.prune(database)
            self.slot.beat()

    # --- where Redis and the databases stand --------------------------------------------------------

    def _check_epoch(self) -> None:
        """Notice a Redis that came back empty (no epoch), with older data (an older beat than the row's), or at all
        (another run of the server may have lost its last second)."""
        if not self._is_due("epoch", SECOND):
            return
        self.connection.set(keys.EPOCH, uuid.uuid4().hex, nx=True)
        epoch = redis.text(self.connection.get(keys.EPOCH))
        if epoch != self.epoch:
            if self.epoch:
                logger.warning("Redis %s has come back empty: rebuilding it from the rows", self.source)
            self.ledgers.clear()
        self.epoch = epoch
        server_run = str(self.connection.info("server")["run_id"])
        if self.server_run and server_run != self.server_run:
            logger.warning("Redis %s was restarted: looking for lost jobs", self.source)
            self._rebuild_all()
        self.server_run = server_run
        if self._is_due("beat", BEAT_EVERY):
            known = float(self.connection.get(keys.BEAT) or 0.0)
            now = registration.redis_time(self.connection)
            self.connection.set(keys.BEAT, f"{now:.6f}")
            before = [ledger.beat(now) for ledger in self.ledgers.values()]
            if max(before, default=0.0) > known + 0.001:
                logger.warning("Redis %s has come back with older data: looking for lost jobs", self.source)
                self._rebuild_all()

    def _rebuild_all(self) -> None:
        for database in self.ledgers:
            self.rebuilds[database] = Rebuild(database, self.queues, self.connection)

    def _wanted(self) -> list[str]:
        return [database for database in databases.allowed() if database not in self._without_table]

    _without_table: frozenset[str] = frozenset()

    def _open_ledgers(self) -> None:
        if self._is_due("tables", 60.0):
            self._without_table = frozenset(name for name in databases.allowed() if not databases.has_table(name))
        for database in self._wanted():
            if database not in self.ledgers:
                ledger = Ledger(self.source, database, self.connection)
                ledger.open(self.epoch)
                self.ledgers[database] = ledger
                self.rebuilds[database] = Rebuild(database, self.queues, self.connection)

    def _watch_backlog(self) -> None:
        backlog = events.backlog(self.connection)
        if backlog > conf.current().stream_max and self._is_due("alert", ALERT_EVERY):
            text = f"{backlog} events of {self.source} wait for the ledger, more than STREAM_MAX: is a database slow?"
            logger.error(text)
            mail_admins("Job ledger is behind", text, fail_silently=True)

    def _is_due(self, duty: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(duty, 0.0):
            return False
        self._due[duty] = now + every
        return True

    def _guarded(self, duty: Callable[[], None]) -> None:
        """Do a duty; when Redis or a database is away, say so, wait a little longer each time, and go on."""
        try:
            duty()
            self._pause = 0.0
            return
        except redis.Unavailable as error:
            self._connected_since = time.monotonic()
            logger.warning("housekeeping: Redis is away: %s", error)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("housekeeping: a database is away or refuses: %s", error)
            self.ledgers.clear()
            self._due.pop("tables", None)
            connections.close_all()
            self._guarded_reap()
        close_old_connections()
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or 0.25)
        time.sleep(self._pause)

    def _guarded_reap(self) -> None:
        """A database that is away must not keep the jobs of dead workers from being rescued."""
        if time.monotonic() - self._connected_since > REAP_GRACE:
            try:
                self.reap()
            except redis.Unavailable as error:
                logger.warning("housekeeping: Redis is away as well: %s", error)

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
