"""The ledger: applies the event stream of one Redis to the rows of one database, exactly once.

Each transaction begins with a conditional UPDATE of the cursor: of two ledgers that apply the same
events at the same time, one rolls back. The stream is trimmed only after the commit.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import QuerySet

from .. import broker, signals
from ..broker import events
from ..broker.events import NO_DATABASE, Event
from ..database import default_database, job_databases
from ..models import LedgerCursor
from .projection import FINAL_EVENTS, Projection

logger = logging.getLogger("wellos_jobs")

BATCH = 1_000

DOUBTED = "(older data)"
"""The server run in the cursor when Redis has older data in the same run."""

FORGET_AFTER = 60
"""Seconds that an ended job stays in Redis after its row was updated."""

FORGET_ROWLESS_AFTER = 86_400
"""The same for a job without a row: its tombstone must outlive the transaction that commits it."""

MARK_TRIES = 5
"""How often ``is_also`` repeats what another leader has overwritten in between."""

_REFUSED_VALUES = frozenset({1264, 1292, 1300, 1366, 1406, 3988})
"""MySQL's codes for values that a column cannot store; mysqlclient calls some "operational"."""


class Overtaken(Exception):
    """Another ledger has applied these events meanwhile."""


class NewEpoch(Exception):
    """Redis has come back empty: the ledger's position is invalid."""


class Ledger:
    """Applies one event stream to one database, and keeps the position."""

    def __init__(self, source: str, database: str, connection: broker.Client) -> None:
        self.source = source
        self.database = database
        self.connection = connection
        self.epoch = ""
        self.position = events.START
        self.saved_position = events.START
        self.known_upto = events.START
        """The position up to which events of this stream may have been applied before."""
        self.is_new_run = False
        """Whether the data of the server run are still to be compared with the rows."""
        self.at_end = False
        """Whether the last batch reached the stream's end."""
        self.takes_rq_jobs = database == default_database()
        """Whether jobs enqueued by plain RQ code get their rows here."""
        self._batch_size = BATCH
        self._strangers: set[str] = set()

    def is_new(self, epoch: str) -> bool:
        """Return whether this database has not seen this epoch of Redis yet."""
        return not self._cursors().filter(epoch=epoch).exists()

    def open(self, epoch: str, server_run: str = "") -> None:
        """Read the cursor; start at the stream's beginning if the epoch or the server run is new.

        A server run that was not accepted yet may hold older data: its new events may come before
        the cursor, and would be passed over.
        """
        self.epoch = epoch
        rows = LedgerCursor.objects.using(self.database)
        cursor, _ = rows.get_or_create(source=self.source, database=self.database)
        self.is_new_run = cursor.epoch != epoch or cursor.server_run != server_run
        if cursor.epoch != epoch:
            cursor = self._restart(cursor, epoch=epoch, beat=0.0)
        elif self.is_new_run:
            cursor = self._restart(cursor)
        self.position = self.saved_position = cursor.position
        self.known_upto = cursor.known_upto

    def accept(self, server_run: str) -> None:
        """Note that the data of this server run were compared with the rows."""
        self._cursors().filter(epoch=self.epoch).update(server_run=server_run)
        self.is_new_run = False

    def doubt(self) -> None:
        """Treat the server run as a new one at the next ``open``: it has older data."""
        self._cursors().update(server_run=DOUBTED)

    def _restart(self, cursor: LedgerCursor, **changes: Any) -> LedgerCursor:
        known = max(cursor.position, cursor.known_upto, key=events.order)
        seen = self._cursor(cursor.position).filter(epoch=cursor.epoch)
        seen.update(position=events.START, known_upto=known, **changes)
        return self._cursors().get()

    def beat(self, now: float) -> float:
        """Store the leader's heartbeat; return the previous one."""
        rows = self._cursors()
        before = rows.values_list("beat", flat=True).first() or 0.0
        rows.update(beat=now)  # even if it is earlier: the clock of Redis may have been set back
        return float(before)

    def drain(self) -> int:
        """Apply one batch; return its number of events. Sets ``at_end`` if they were the last.

        After a database error the next batch is smaller: the statement may have been too large.
        MariaDB closes the connection above ``max_allowed_packet``, as if the server had gone away.

        Raises:
            Overtaken: another ledger was faster; call ``open`` again.
            NewEpoch: Redis has come back empty.
        """
        self.at_end = False
        epoch, batch = events.read(self.connection, self.position, self._batch_size)
        if epoch != self.epoch:
            raise NewEpoch(epoch)

        own = [event for event in batch if self._is_own(event)]
        if self.takes_rq_jobs and len(own) < len(batch):
            self._report_strangers({event.database for event in batch})
        try:
            if own:
                self._apply_or_split(own, batch[-1].position)
        except (OperationalError, InterfaceError):
            self._batch_size = max(1, self._batch_size // 4)
            raise

        if batch:
            self.position = batch[-1].position
        if len(batch) < self._batch_size:
            self.at_end, self._batch_size = True, BATCH
        return len(batch)

    def close(self, ended: Sequence[Event]) -> None:
        """End rows by events that were lost: made from what Redis still has of their jobs.

        Raises:
            Overtaken: another ledger was faster; call ``open`` again.
        """
        for event in ended:
            try:
                self._apply([event], self.saved_position)
            except Exception as error:
                if _is_unrelated(error):
                    raise
                self._apply_somehow(event, self.saved_position)

    def _report_strangers(self, aliases: set[str]) -> None:
        """Log, once, the databases whose events are not applied."""
        known = {"", NO_DATABASE, self.database, *job_databases()}
        for alias in aliases - known - self._strangers:
            logger.error(
                "jobs were enqueued in the database %r, which is not one of those that hold jobs "
                'here (%s): their rows are not kept up; name it in WELLOS_JOBS["JOB_DATABASES"]',
                alias,
                ", ".join(job_databases()),
            )
            self._strangers.add(alias)

    def _is_own(self, event: Event) -> bool:
        return event.database == self.database or (not event.database and self.takes_rq_jobs)

    def _apply_or_split(self, batch: Sequence[Event], position: str) -> None:
        """Apply a batch. If it fails, apply its halves, down to the event at fault.

        That event must not block the others forever: it is applied without its texts, see
        ``_apply_somehow``.
        """
        try:
            self._apply(batch, position)
        except Exception as error:
            committed = self.saved_position == position
            if committed or _is_unrelated(error):
                raise
            if len(batch) == 1:
                self._apply_somehow(batch[0], position)
                return

            middle = len(batch) // 2
            self._apply_or_split(batch[:middle], batch[middle - 1].position)
            self._apply_or_split(batch[middle:], position)

    def _apply_somehow(self, event: Event, position: str) -> None:
        """Apply an event that the database refuses without its texts.

        If that fails too, the end of a job still ends its row; any other event is skipped.
        """
        logger.exception(
            "event %s of job=%s cannot be applied: trying without its texts",
            event.event,
            event.job_id,
        )
        try:
            self._apply([event.without_texts()], position)
        except Exception as error:
            if _is_unrelated(error):
                raise
            logger.exception(
                "event %s of job=%s cannot be applied: skipped", event.event, event.job_id
            )
            self._apply([], position, ending=event if event.event in FINAL_EVENTS else None)

    def _apply(self, batch: Sequence[Event], position: str, *, ending: Event | None = None) -> None:
        """Apply events and move the cursor. ``ending``: only end the row of this one's job."""
        projection = Projection(self.database, self.connection, self.known_upto)
        with transaction.atomic(using=self.database):
            if not self._cursor(self.saved_position).update(position=position):
                raise Overtaken(f"{self.source} at {self.saved_position}")
            projection.apply(batch)
            projection.save()
            if ending is not None:
                projection.end_row(ending)

        # Committed: set before anything else can fail.
        self.position = self.saved_position = position

        if projection.final:
            broker.run(self.connection, "forget", FORGET_AFTER, *projection.final)
        if projection.rowless:
            broker.run(self.connection, "forget", FORGET_ROWLESS_AFTER, *projection.rowless)
        if signals.dead_letter_created.receivers:
            for letter in projection.letters:
                signals.send(signals.dead_letter_created, dead_letter=letter)

    def is_also(self, alias: str) -> bool:
        """Return whether another alias leads to this database.

        What is written here is read there: so a copy or a replica that is behind is another one.
        """
        mark = uuid.uuid4().hex
        there = self._cursors().using(alias).values_list("mark", flat=True)
        here = self._cursors().values_list("mark", flat=True)
        for _ in range(MARK_TRIES):
            self._cursors().update(mark=mark)
            if there.first() == mark:
                return True
            if here.first() == mark:
                return False
        raise OperationalError(f"the mark of {self.source} was overwritten {MARK_TRIES} times")

    def _cursors(self) -> QuerySet[LedgerCursor]:
        rows = LedgerCursor.objects.using(self.database)
        return rows.filter(source=self.source, database=self.database)

    def _cursor(self, position: str) -> QuerySet[LedgerCursor]:
        return self._cursors().filter(position=position)


def _is_unrelated(error: Exception) -> bool:
    """Return whether an error is unrelated to the events: the same ones may succeed later."""
    if isinstance(error, OperationalError) and error.args[:1] and error.args[0] in _REFUSED_VALUES:
        return False
    return isinstance(error, (Overtaken, OperationalError, InterfaceError, broker.Error))
