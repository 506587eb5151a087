"""One worker, one ledger and no Redis, in the test's own process: the rows say what is to be run.

Jobs are run by the worker's code, and how they end reaches the rows by the ledger's. Left out is
what only Redis does: limits, circuit breakers and fair turns hold no job back, queues cannot be
paused, and nothing runs at the same time as something else.
"""

from __future__ import annotations

import json
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from .. import Discard, JobHandle, Priority, Retry, signals
from ..broker import job_hash, kept_away
from ..broker.claims import CLAIM_FIELDS, EVENT_OF, Claim, Outcome, claim_of
from ..broker.events import Event
from ..database import run_on_commit
from ..definitions.retry import Snooze
from ..enqueueing import stand_in
from ..enqueueing.push import announce, hash_of
from ..enqueueing.stand_in import Canceled
from ..errors import JobStopped
from ..ledger.projection import Projection
from ..models import JobRecord
from ..states import EventName, JobState
from ..worker import execution
from ..worker.timeouts import RunTimer
from . import commits

WORKER = "test"
"""The name of the worker in the rows."""

Choice = Callable[[QuerySet[JobRecord]], QuerySet[JobRecord]]
"""Narrows the jobs to those that are wanted."""

_MOVABLE = (JobState.WAITING, JobState.DELAYED, JobState.BLOCKED)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job: how it ended, and the exception that ended it."""

    handle: JobHandle
    outcome: Outcome
    error: BaseException | None = None

    @property
    def is_unwanted(self) -> bool:
        """Whether the job did not end as its code meant it to."""
        if self.error is None or isinstance(self.error, (Discard, Snooze, JobStopped)):
            return False
        return not (isinstance(self.error, Retry) and self.outcome.kind == "retried")


class Engine:
    """Takes the place of Redis and worker. ``after_push`` is called when jobs were taken."""

    def __init__(self) -> None:
        self.databases = commits.databases_of_test()
        self.after_push: Callable[[], None] | None = None
        self._timer = RunTimer()
        self._positions = 0
        self._running: Claim | None = None
        self._is_busy = False
        self._is_stopping = False

    # --- in the place of Redis --------------------------------------------------------------------

    def push(self, records: Sequence[JobRecord], event: EventName) -> None:
        """Note that these jobs may run, unless they were taken before or exist no more."""
        by_database: dict[str, list[uuid.UUID]] = {}
        for record in records:
            by_database.setdefault(record._state.db or "default", []).append(record.pk)

        for database, keys in by_database.items():
            rows = self._rows(database).in_bulk(keys)
            new = [row for key in keys if (row := rows.get(key)) and _is_new(row)]
            if new:
                self._apply(database, [self._event(row, event, **_due(row)) for row in new])
                announce(new, event, timezone.now())

        self._tell_of_push()

    def cancel(self, record: JobRecord, detail: dict[str, Any] | None) -> Canceled:
        """Cancel a job; one that runs is stopped."""
        database = record._state.db or "default"
        row = self._rows(database).get(pk=record.pk)
        if JobState(row.state).is_final:
            return "already" if row.state == JobState.CANCELED else "final"

        if self._running is not None and self._running.id == str(row.pk):
            self._is_stopping = True
            self._timer.interrupt(JobStopped())
            return "stopping"

        self._apply(database, [self._event(row, EventName.CANCELED, **(detail or {}))])
        return "canceled"

    def promote(self, record: JobRecord) -> bool:
        """Let a delayed job run now."""
        database = record._state.db or "default"
        row = self._rows(database).get(pk=record.pk)
        if row.state != JobState.DELAYED:
            return False

        self._apply(database, [self._event(row, EventName.ENQUEUED)])
        run_on_commit(database, self._tell_of_push)
        return True

    def _tell_of_push(self) -> None:
        if self.after_push is not None:
            self.after_push()

    def relocate(self, record: JobRecord, _queue: str, _priority: Priority) -> bool:
        """Return whether a job has not started yet: its row is all there is to change."""
        row = self._rows(record._state.db or "default").get(pk=record.pk)
        return row.state in _MOVABLE

    # --- in the place of a worker -----------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a job runs, or its end is being noted."""
        return self._is_busy

    def next_due(self, wanted: Choice) -> JobRecord | None:
        """Return the row of the job that a worker would take now, among those wanted; or None."""
        is_due = Q(state=JobState.WAITING) | Q(state=JobState.DELAYED, run_at__lte=timezone.now())
        for database in self.databases:
            rows = wanted(self._rows(database).filter(is_due, rq_id=None))
            since = Coalesce("run_at", "created_at")
            if (row := rows.order_by("priority", since, "created_at", "pk").first()) is not None:
                return row
        return None

    def next_moment(self, wanted: Choice) -> datetime | None:
        """Return when the next delayed job will be due."""
        moments = [
            wanted(self._rows(database).filter(state=JobState.DELAYED, rq_id=None))
            .order_by("run_at")
            .values_list("run_at", flat=True)
            .first()
            for database in self.databases
        ]
        return min((moment for moment in moments if moment is not None), default=None)

    def run(self, row: JobRecord) -> Run:
        """Run a job once, whatever its state, as a worker that has claimed it."""
        self._is_busy = True
        try:
            return self._run(row, _claim(row))
        finally:
            self._is_busy = False

    def _run(self, row: JobRecord, claim: Claim) -> Run:
        self._record(row, claim, EventName.STARTED)
        progress = _Progress(claim)
        errors: list[BaseException] = []
        outcome = self._call(claim, progress, errors.append)

        if progress.last is not None:
            self._apply(claim.database, [self._event_of(row, claim, progress.last)])
        self._settle(row, claim, outcome)
        handle = JobHandle(row.pk, row.queue, claim.database)
        return Run(handle, outcome, errors[-1] if errors else None)

    def _call(
        self, claim: Claim, progress: _Progress, on_error: Callable[[BaseException], None]
    ) -> Outcome:
        self._running, self._is_stopping = claim, False
        try:
            with _own_alarm(), _unbroken_transactions():
                outcome = execution.run(
                    claim, self._timer, progress, on_error=on_error, as_plain=_in_this_thread
                )
        finally:
            self._running = None

        if outcome.kind == "waits_for_code":  # no other worker could know it
            outcome = replace(outcome, kind="failed")
        was_stopped = self._is_stopping and outcome.kind not in ("completed", "failed")
        return replace(outcome, kind="canceled") if was_stopped else outcome

    def _settle(self, row: JobRecord, claim: Claim, outcome: Outcome) -> None:
        note = f"{outcome.error_class}: {outcome.message}" if outcome.error_class else ""
        detail = json.loads(outcome.detail())
        self._record(row, claim, EVENT_OF[outcome.kind], detail, note=note)

    # --- events -----------------------------------------------------------------------------------

    def _record(
        self,
        row: JobRecord,
        claim: Claim,
        event: EventName,
        detail: dict[str, Any] | None = None,
        note: str = "",
    ) -> None:
        self._apply(claim.database, [self._event_of(row, claim, (event, detail or {}))])
        _announce(claim, event, note)

    def _apply(self, database: str, events: Sequence[Event]) -> None:
        projection = Projection(database, kept_away.client())
        with transaction.atomic(using=database):
            projection.apply(events)
            projection.save()
        for letter in projection.letters:
            signals.send(signals.dead_letter_created, dead_letter=letter)

    def _event_of(
        self, row: JobRecord, claim: Claim, what: tuple[EventName, dict[str, Any]]
    ) -> Event:
        event, detail = what
        return replace(
            self._event(row, event, **detail), attempt=claim.attempt, database=claim.database
        )

    def _event(self, row: JobRecord, event: EventName, **detail: Any) -> Event:
        self._positions += 1
        return Event(
            position=f"{self._positions}-0",
            event=event,
            job_id=str(row.pk),
            name=row.name,
            queue=row.queue,
            attempt=row.attempts,
            worker=WORKER if event not in (EventName.ENQUEUED, EventName.REPLAYED) else "",
            database=row._state.db or "default",
            generation=row.replays,
            at=timezone.now(),
            detail=detail,
        )

    def _rows(self, database: str) -> QuerySet[JobRecord]:
        return JobRecord.objects.using(database)


@contextmanager
def engine_in_force() -> Iterator[Engine]:
    """Give the engine that is in the place of Redis; if there is none, a new one for the block."""
    running = stand_in.current()
    if isinstance(running, Engine):
        yield running
        return

    engine = Engine()
    with kept_away.no_redis(), stand_in.standing_in(engine):
        yield engine


# --- one run --------------------------------------------------------------------------------------


class _Progress:
    """Announces the reports of a run, and keeps the last one for its row."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self.last: tuple[EventName, dict[str, Any]] | None = None

    def __call__(self, percent: int, message: str, final: bool) -> None:
        self.last = EventName.PROGRESSED, {"percent": percent, "message": message}
        _announce(self._claim, EventName.PROGRESSED, f"percent={percent}")


def _claim(row: JobRecord) -> Claim:
    fields = hash_of(row) | {job_hash.ATTEMPT: str(row.attempts + 1), job_hash.RUN: WORKER}
    values = [fields[name].encode() if name in fields else None for name in CLAIM_FIELDS]
    return claim_of(str(row.pk), values, WORKER)


def _announce(claim: Claim, event: EventName, note: str = "") -> None:
    signals.announce(
        event,
        job_id=claim.id,
        name=claim.name,
        queue=claim.queue,
        attempt=claim.attempt,
        at=timezone.now(),
        note=note,
    )


def _is_new(row: JobRecord) -> bool:
    return row.enqueued_at is None and row.state in (JobState.WAITING, JobState.DELAYED)


def _due(row: JobRecord) -> dict[str, Any]:
    is_delayed = row.state == JobState.DELAYED and row.run_at is not None
    return {"run_at": row.run_at.timestamp()} if is_delayed and row.run_at else {}


def _in_this_thread(function: Callable[..., Any], _job_id: str) -> Callable[..., Any]:
    """Return an async job as a plain function whose queries use the test's connections."""
    return async_to_sync(function)


@contextmanager
def _own_alarm() -> Iterator[None]:
    """Give the alarm of this process to the run's timeout, and then back to whom had it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    handler, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        if left:
            rest = max(0.001, left - (time.monotonic() - began))
            signal.setitimer(signal.ITIMER_REAL, rest, interval)


@contextmanager
def _unbroken_transactions() -> Iterator[None]:
    """Let a run that ends with an error of the database leave a usable transaction to the test.

    Its work is rolled back then, where a worker would have kept what came before the error.
    """
    saved = [
        (connection, sid)
        for connection in connections.all(initialized_only=True)
        if connection.in_atomic_block and (sid := connection.savepoint()) is not None
    ]
    for connection, sid in saved:
        connection.savepoint_ids.append(sid)
    try:
        yield
    finally:
        for connection, sid in saved:
            connection.savepoint_ids.remove(sid)
            if connection.needs_rollback or not connection.is_usable():
                connection.needs_rollback = False
                connection.savepoint_rollback(sid)
            connection.savepoint_commit(sid)
