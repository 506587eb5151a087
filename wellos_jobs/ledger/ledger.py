"""The ledger: folds the event stream of one Redis into the rows of one database, each event exactly once.

The cursor moves by a conditional UPDATE in the rows' own transaction, first of all: two ledgers
that fold the same events at once meet there, and one of them rolls back. The stream is trimmed only
after the commit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import InterfaceError, OperationalError, router, transaction
from django.db.models import QuerySet

from .. import broker, signals
from ..broker import events
from ..broker.events import Event
from ..models import DeadLetter, JobRecord, LedgerCursor
from .projection import Fold

logger = logging.getLogger("wellos_jobs")

BATCH = 1_000
FORGET_AFTER = 60
"""Seconds that a final job stays in Redis once the rows know of it."""
FORGET_ROWLESS_AFTER = 86_400
"""The same for one that has no row: a tombstone must outlive the transaction that is about to commit its job."""


class Overtaken(Exception):
    """Another ledger has folded these events meanwhile."""


class NewEpoch(Exception):
    """Redis has come back empty: the ledger's position means nothing any more."""


class Ledger:
    """Where one database stands in one event stream."""

    def __init__(self, source: str, database: str, connection: broker.Client) -> None:
        self.source = source
        self.database = database
        self.connection = connection
        self.epoch = ""
        self.position = events.START
        self.saved_position = events.START
        self.at_end = False
        """Whether the last batch reached the stream's end."""
        self._most = BATCH
        self.takes_foreign = database == router.db_for_write(JobRecord)

    def is_new(self, epoch: str) -> bool:
        """Tell whether this database has not seen an epoch of Redis yet."""
        return (
            not LedgerCursor.objects.using(self.database)
            .filter(source=self.source, epoch=epoch)
            .exists()
        )

    def open(self, epoch: str) -> None:
        """Read the cursor; of an epoch that is new the stream is read from its start."""
        self.epoch = epoch
        cursor, _ = LedgerCursor.objects.using(self.database).get_or_create(source=self.source)
        if cursor.epoch != epoch:
            moved = self._cursor(cursor.position).filter(epoch=cursor.epoch)
            moved.update(epoch=epoch, position=events.START, beat=0.0)
            cursor = LedgerCursor.objects.using(self.database).get(source=self.source)
        self.position = self.saved_position = cursor.position

    def beat(self, now: float) -> float:
        """Note the leader's heartbeat in the row; return the one noted before."""
        rows = LedgerCursor.objects.using(self.database).filter(source=self.source)
        before = rows.values_list("beat", flat=True).first() or 0.0
        rows.update(
            beat=now
        )  # which is earlier than before, if somebody has set the clock of Redis back
        return float(before)

    def drain(self) -> int:
        """Fold one batch; return how many events it had. ``at_end`` tells whether these were the last.

        A database that fails is asked for less the next time: it may have refused the size (MariaDB
        hangs up on a statement above ``max_allowed_packet``), which looks the same as if it had
        gone away.

        Raises:
            Overtaken: another ledger was faster; ``open`` again.
            NewEpoch: Redis has come back empty.
        """
        self.at_end = False
        epoch, batch = events.read(self.connection, self.position, self._most)
        if epoch != self.epoch:
            raise NewEpoch(epoch)
        own = [event for event in batch if self._is_own(event)]
        try:
            if own:
                self._fold_or_halve(own, batch[-1].position)
        except (OperationalError, InterfaceError):
            self._most = max(1, self._most // 4)
            raise
        if batch:
            self.position = batch[-1].position
        if len(batch) < self._most:
            self.at_end, self._most = True, BATCH
        return len(batch)

    def _is_own(self, event: Event) -> bool:
        return event.database == self.database or (not event.database and self.takes_foreign)

    def _fold_or_halve(self, batch: Sequence[Event], position: str) -> None:
        """Fold a batch. One event that a database will never take must not keep the others from it for ever: such a
        batch is folded in halves, down to that event, which is logged and passed over."""
        try:
            self._fold(batch, position)
        except (Overtaken, OperationalError, InterfaceError, broker.Error):
            raise
        except Exception:
            if len(batch) == 1:
                logger.exception(
                    "event %s of job=%s cannot be folded: passed over",
                    batch[0].event,
                    batch[0].job_id,
                )
                self._fold([], position)
                return
            middle = len(batch) // 2
            self._fold_or_halve(batch[:middle], batch[middle - 1].position)
            self._fold_or_halve(batch[middle:], position)

    def _fold(self, batch: Sequence[Event], position: str) -> None:
        fold = Fold(self.database, self.connection)
        with transaction.atomic(using=self.database):
            if not self._cursor(self.saved_position).update(position=position):
                raise Overtaken(f"{self.source} at {self.saved_position}")
            fold.apply(batch)
            fold.save()
        self.position = self.saved_position = (
            position  # whatever comes next, these events are folded
        )
        if fold.final:
            broker.run(self.connection, "forget", FORGET_AFTER, *fold.final)
        if fold.rowless:
            broker.run(self.connection, "forget", FORGET_ROWLESS_AFTER, *fold.rowless)
        for letter in fold.letters:
            _tell(letter)

    def _cursor(self, position: str) -> QuerySet[LedgerCursor]:
        return LedgerCursor.objects.using(self.database).filter(
            source=self.source, position=position
        )


def _tell(letter: DeadLetter) -> None:
    if signals.dead_letter_created.receivers:
        signals.send(signals.dead_letter_created, dead_letter=letter)
