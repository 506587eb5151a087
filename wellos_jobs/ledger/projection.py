"""Apply a batch of events to the rows: computed in memory, then written in a few statements."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections

from .. import broker
from ..alerts.failure_mail import notify_of
from ..broker import keys
from ..broker.events import NOT_STORED, START, Event
from ..definitions import ids
from ..enqueueing import dependencies
from ..models import AuditEntry, DeadLetter, JobAttempt, JobLog, JobRecord
from ..models.dead_letter import dead_letter_of
from ..models.job import FRESH
from ..payload.rq_calls import MAX_ID, read_call
from ..payload.values import storable
from ..states import AttemptOutcome, DeadLetterStatus, EventName, FailureReason, JobState
from . import repetition
from .counters import MinuteCounts

logger = logging.getLogger("wellos_jobs")

_FINAL_STATES = {
    EventName.COMPLETED: JobState.COMPLETED,
    EventName.FAILED: JobState.FAILED,
    EventName.CANCELED: JobState.CANCELED,
}
FINAL_EVENTS = frozenset(_FINAL_STATES)
_RQ_FIELDS = ["data", "description", "created_at"]
"""Fields of RQ's job hash that describe a job enqueued by plain RQ code."""


class Projection:
    """The changes that one batch of events makes to the rows of one database."""

    def __init__(self, database: str, connection: broker.Client, known_upto: str = START) -> None:
        self.database = database
        self.connection = connection
        self.known_upto = known_upto
        """The position up to which events may have been applied before."""
        self.rows: dict[uuid.UUID, JobRecord] = {}
        self.changed: dict[uuid.UUID, JobRecord] = {}
        self.attempts: list[JobAttempt] = []
        self.logs: list[JobLog] = []
        self.letters: list[DeadLetter] = []
        self.audit: list[AuditEntry] = []
        self.counts = MinuteCounts()
        self.final: list[str] = []
        self.rowless: list[str] = []
        """Ended jobs without a row: it was deleted, or the transaction is about to commit it."""

    def apply(self, events: Sequence[Event]) -> None:
        """Apply events in stream order. Events whose row was deleted are skipped."""
        self._load(events)
        for event in events:
            row = self.rows.get(_row_id(event))
            if row is None:
                self._skip(event)
            elif repetition.is_repeated(row, event, self.known_upto):
                self._pass_over(row, event)
            else:
                self._apply_one(row, event)

    def _skip(self, event: Event) -> None:
        logger.warning(
            "event %s of job=%s has no row in %s", event.event, event.job_id, self.database
        )
        if event.event in FINAL_EVENTS:
            self.rowless.append(event.job_id)

    def _pass_over(self, row: JobRecord, event: Event) -> None:
        """Leave the row as it is. The job's hash, if it has ended, may still expire."""
        if not JobState(row.state).is_final:
            return
        if event.event in FINAL_EVENTS:
            self.final.append(event.job_id)
        elif event.event is EventName.STARTED and event.at > (row.finished_at or event.at):
            logger.warning(
                "job=%s was run again after its end, as Redis had older data: its row stays %s",
                event.job_id,
                row.state,
            )

    def _apply_one(self, row: JobRecord, event: Event) -> None:
        if event.detail.get("log"):
            self.logs.append(_log(row, event))
        if not _is_repetition(row, event):
            self.counts.count(event.event, row.queue, row.name, event.at)

        if event.generation >= row.replays:
            self.changed[row.pk] = row
        else:
            # From before a replay: keep its attempt and dead letter, but not its row changes.
            row = copy.copy(row)
        _HANDLERS[event.event](self, row, event)

    def save(self) -> None:
        """Write everything: one statement per kind of row."""
        self._save_jobs()
        JobAttempt.objects.using(self.database).bulk_create(self.attempts)
        JobLog.objects.using(self.database).bulk_create(self.logs)
        self._save_letters()
        AuditEntry.objects.using(self.database).bulk_create(self.audit)
        self.counts.save(self.database)

        ended = [row.pk for row in self.changed.values() if JobState(row.state).is_final]
        if ended:
            dependencies.release(ended, self.database)
        if self.letters:
            notify_of(self.letters, self.database)

    def end_row(self, event: Event) -> None:
        """End the row of a final event that cannot be applied, so that it does not stay open."""
        rows = JobRecord.objects.using(self.database).filter(
            pk=_row_id(event), replays__lte=event.generation
        )
        ended = rows.exclude(state__in=_FINAL_STATES.values()).update(
            state=_FINAL_STATES[event.event], finished_at=event.at, error=NOT_STORED
        )
        if ended:
            self.final.append(event.job_id)

    def _save_jobs(self) -> None:
        if not self.changed:
            return
        target = connections[self.database].features.supports_update_conflicts_with_target
        JobRecord.objects.using(self.database).bulk_create(
            self.changed.values(),
            update_conflicts=True,
            update_fields=list(FRESH),
            unique_fields=["id"] if target else None,
        )

    def _save_letters(self) -> None:
        if not self.letters:
            return
        self._drop_second_letters()
        if connections[self.database].features.can_return_rows_from_bulk_insert:
            DeadLetter.objects.using(self.database).bulk_create(self.letters)
            return
        for letter in self.letters:  # MySQL returns no keys of a bulk insert; the mails need them
            letter.save(force_insert=True, using=self.database)

    def _drop_second_letters(self) -> None:
        """Keep one open dead letter for a job: RQ may run a failed one again, without a replay."""
        open_letters = DeadLetter.objects.using(self.database).filter(
            job__in=[letter.job_id for letter in self.letters], status=DeadLetterStatus.OPEN
        )
        known = set(open_letters.values_list("job_id", flat=True))
        kept = []
        for letter in self.letters:
            if letter.job_id not in known:
                known.add(letter.job_id)
                kept.append(letter)
        self.letters = kept

    # --- rows -------------------------------------------------------------------------------------

    def _load(self, events: Sequence[Event]) -> None:
        """Load the rows of all events, and make those of jobs enqueued by plain RQ code."""
        first_events = {_row_id(event): event for event in reversed(events)}
        self.rows = JobRecord.objects.using(self.database).in_bulk(list(first_events))

        unknown = [
            event
            for row_id, event in first_events.items()
            if row_id not in self.rows and not event.name
        ]
        if not unknown:
            return

        described = {
            _row_id(event): event.detail
            for event in events
            if not event.name and "name" in event.detail
        }
        with self.connection.pipeline(transaction=False) as pipeline:
            for event in unknown:
                pipeline.hmget(keys.job(event.job_id), _RQ_FIELDS)
            for event, found in zip(unknown, pipeline.execute(), strict=True):
                row = _foreign_row(event, described.get(_row_id(event)), found)
                self.rows[row.pk] = row

    def _attempt(self, row: JobRecord, event: Event, outcome: AttemptOutcome) -> None:
        self.attempts.append(
            JobAttempt(
                job=row,
                replay=event.generation,
                number=event.attempt,
                outcome=outcome,
                worker=event.worker,
                started_at=row.started_at,
                ended_at=event.at,
                error_class=str(event.detail.get("error_class", ""))[:200],
                message=event.detail.get("message", ""),
                traceback=event.detail.get("traceback", ""),
            )
        )

    def _time_run(self, row: JobRecord, event: Event) -> None:
        if "run" in event.detail:
            self.counts.time("run", event.detail["run"], row.queue, row.name, event.at)

    def _finish(self, row: JobRecord, event: Event, state: JobState) -> None:
        if event.generation >= row.replays:
            row.state = state
            row.finished_at = event.at
            self.final.append(event.job_id)

    # --- one method per event ---------------------------------------------------------------------

    def enqueued(self, row: JobRecord, event: Event) -> None:
        due = event.detail.get("run_at")
        row.state = JobState.DELAYED if due else JobState.WAITING
        row.enqueued_at = event.at
        if due:
            row.run_at = datetime.fromtimestamp(float(due), tz=UTC)

    def started(self, row: JobRecord, event: Event) -> None:
        row.state = JobState.ACTIVE
        row.started_at, row.finished_at = event.at, None
        row.worker = event.worker[:120]
        row.attempts = event.attempt
        row.progress, row.progress_message = 0, ""
        if "wait" in event.detail:
            self.counts.time("wait", event.detail["wait"], row.queue, row.name, event.at)

    def progressed(self, row: JobRecord, event: Event) -> None:
        row.progress = event.detail["percent"]
        row.progress_message = event.detail["message"]

    def completed(self, row: JobRecord, event: Event) -> None:
        self._time_run(row, event)
        self._finish(row, event, JobState.COMPLETED)
        row.result = json.loads(event.detail["result"]) if event.detail.get("result") else None
        row.progress, row.error = 100, ""

    def retried(self, row: JobRecord, event: Event) -> None:
        self._time_run(row, event)
        timed_out = event.detail.get("reason") == FailureReason.TIMEOUT
        self._attempt(row, event, AttemptOutcome.TIMEOUT if timed_out else AttemptOutcome.RETRIED)
        row.state = JobState.DELAYED
        row.error = event.detail.get("message", "")
        row.run_at = event.at + timedelta(seconds=event.detail.get("after", 0.0))

    def snoozed(self, row: JobRecord, event: Event) -> None:
        after = event.detail.get("after", 0.0)
        row.state = JobState.DELAYED if after else JobState.WAITING
        row.attempts = max(0, event.attempt - 1)
        row.progress_message = str(event.detail.get("message", ""))[:200]
        if after:
            row.run_at = event.at + timedelta(seconds=after)

    def failed(self, row: JobRecord, event: Event) -> None:
        self._time_run(row, event)
        reason = FailureReason(event.detail.get("reason") or FailureReason.EXHAUSTED)
        outcomes = {
            FailureReason.CRASHED: AttemptOutcome.CRASHED,
            FailureReason.TIMEOUT: AttemptOutcome.TIMEOUT,
            FailureReason.LOST: AttemptOutcome.CRASHED,
        }
        # One that was lost, or waited too long for code, may never have run.
        may_wait = reason is FailureReason.LOST or not event.worker
        if row.state == JobState.ACTIVE or not may_wait:
            self._attempt(row, event, outcomes.get(reason, AttemptOutcome.FAILED))
        self._finish(row, event, JobState.FAILED)

        message = event.detail.get("message", "")
        row.error = message
        row.attempts = event.attempt

        letter, entry = dead_letter_of(
            row,
            reason=reason,
            error_class=str(event.detail.get("error_class", ""))[:200],
            message=message,
            traceback=event.detail.get("traceback", ""),
            attempts=event.attempt,
            failed_at=event.at,
        )
        self.letters.append(letter)
        self.audit.append(entry)

    def canceled(self, row: JobRecord, event: Event) -> None:
        if row.state == JobState.ACTIVE and event.worker:
            self._attempt(row, event, AttemptOutcome.CANCELED)
        self._finish(row, event, JobState.CANCELED)

    def rescued(self, row: JobRecord, event: Event) -> None:
        timed_out = event.detail.get("reason") == FailureReason.TIMEOUT
        self._attempt(row, event, AttemptOutcome.TIMEOUT if timed_out else AttemptOutcome.CRASHED)
        row.state = JobState.WAITING
        row.error = event.detail.get("message", "")


_HANDLERS = {
    EventName.ENQUEUED: Projection.enqueued,
    EventName.REPLAYED: Projection.enqueued,
    EventName.STARTED: Projection.started,
    EventName.PROGRESSED: Projection.progressed,
    EventName.COMPLETED: Projection.completed,
    EventName.RETRIED: Projection.retried,
    EventName.SNOOZED: Projection.snoozed,
    EventName.FAILED: Projection.failed,
    EventName.CANCELED: Projection.canceled,
    EventName.RESCUED: Projection.rescued,
}


def _is_repetition(row: JobRecord, event: Event) -> bool:
    """Return whether the statistics counted this event already.

    A delayed job counts as enqueued when it is created, not again when its delay is over; and a
    late push of a canceled job repeats its ``canceled`` event.
    """
    if event.event is EventName.ENQUEUED:
        return row.enqueued_at is not None
    return event.event is EventName.CANCELED and row.state == JobState.CANCELED


def _row_id(event: Event) -> uuid.UUID:
    """Return the primary key of an event's row; derived from the RQ id for plain RQ jobs."""
    known = ids.parse_id(event.job_id) if event.name else None
    return known or ids.derived_id("rq", event.job_id)


def _stored_id(rq_id: str) -> str:
    """Return the id of a plain RQ job as its row holds it. One that is too long stays unique."""
    if len(rq_id.encode()) <= MAX_ID:
        return rq_id
    digest = hashlib.sha256(rq_id.encode()).hexdigest()[:32]
    return f"{rq_id[:100]}…{digest}"


def _foreign_row(
    event: Event, described: dict[str, Any] | None, found: Sequence[bytes | None]
) -> JobRecord:
    """Make the row of a plain RQ job, from its final event if that describes it, else its hash.

    RQ may have deleted the hash by now.
    """
    data, description, created = found
    call: dict[str, Any] = described or (read_call(data) if data else None) or {}
    name = call.get("name") or storable(broker.text(description)) or "(unknown)"
    created_text = broker.text(created)

    return JobRecord(
        id=_row_id(event),
        rq_id=_stored_id(event.job_id),
        name=str(name)[:180],
        queue=event.queue[:100],
        data=call.get("data", {}),
        max_attempts=1,
        created_at=datetime.fromisoformat(created_text) if created_text else event.at,
    )


def _log(row: JobRecord, event: Event) -> JobLog:
    lines, dropped = event.detail["log"], event.detail.get("log_dropped", 0)
    return JobLog(
        job=row, replay=event.generation, number=event.attempt, lines=lines, dropped=dropped
    )
