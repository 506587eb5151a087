"""Folding: what a batch of events makes of the rows. Pure bookkeeping in memory, then a few statements."""

from __future__ import annotations

import copy
import json
import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections

from .. import broker
from ..broker import keys
from ..broker.events import Event
from ..definitions import ids
from ..enqueueing import dependencies
from ..models import AuditEntry, DeadLetter, JobAttempt, JobLog, JobRecord
from ..models.dead_letter import bury
from ..payload.rq_calls import read_call
from ..payload.values import storable
from ..states import AttemptOutcome, EventName, FailureReason, JobState
from .counters import MinuteCounts
from .failure_mail import letters_created

logger = logging.getLogger("wellos_jobs")

RUN_FIELDS = [
    "state",
    "attempts",
    "progress",
    "progress_message",
    "result",
    "error",
    "worker",
    "run_at",
    "enqueued_at",
    "started_at",
    "finished_at",
]
FINAL_EVENTS = frozenset({EventName.COMPLETED, EventName.FAILED, EventName.CANCELED})
_NAME_OF_FOREIGN = ["data", "description", "created_at"]


class Fold:
    """One batch of events of one database, on its way into the rows."""

    def __init__(self, database: str, connection: broker.Client) -> None:
        self.database = database
        self.connection = connection
        self.rows: dict[uuid.UUID, JobRecord] = {}
        self.changed: dict[uuid.UUID, JobRecord] = {}
        self.attempts: list[JobAttempt] = []
        self.logs: list[JobLog] = []
        self.letters: list[DeadLetter] = []
        self.audit: list[AuditEntry] = []
        self.counts = MinuteCounts()
        self.final: list[str] = []
        self.rowless: list[str] = []
        """Final jobs that nobody will ask about any more: somebody deleted their rows."""

    def apply(self, events: Sequence[Event]) -> None:
        """Fold events in stream order. Events of rows that were deleted are passed over."""
        self._load(events)
        for event in events:
            row = self.rows.get(_row_id(event))
            if row is None:
                logger.warning(
                    "event %s of job=%s has no row in %s", event.event, event.job_id, self.database
                )
                if event.event in FINAL_EVENTS:
                    self.rowless.append(event.job_id)
                continue
            if event.detail.get("log"):
                self.logs.append(_log(row, event))
            if not _is_repetition(row, event):
                self.counts.count(event.event, row.queue, row.name, event.at)
            if event.generation >= row.replays:
                self.changed[row.pk] = row
                _APPLY[event.event](self, row, event)
            else:  # of a life before the replay: it has its attempt and letter, the row speaks of this life
                _APPLY[event.event](self, copy.copy(row), event)

    def save(self) -> None:
        """Write everything: one statement for each kind of row."""
        if self.changed:
            target = connections[self.database].features.supports_update_conflicts_with_target
            JobRecord.objects.using(self.database).bulk_create(
                self.changed.values(),
                update_conflicts=True,
                update_fields=RUN_FIELDS,
                unique_fields=["id"] if target else None,
            )
        JobAttempt.objects.using(self.database).bulk_create(self.attempts)
        JobLog.objects.using(self.database).bulk_create(self.logs)
        self._save_letters()
        AuditEntry.objects.using(self.database).bulk_create(self.audit)
        self.counts.save(self.database)
        ended = [row.pk for row in self.changed.values() if JobState(row.state).is_final]
        if ended:
            dependencies.release(ended, self.database)
        if self.letters:
            letters_created(self.letters, self.database)

    def _save_letters(self) -> None:
        if connections[self.database].features.can_return_rows_from_bulk_insert:
            DeadLetter.objects.using(self.database).bulk_create(self.letters)
            return
        for letter in self.letters:  # MySQL tells no keys of a batch, and the notices need them
            letter.save(force_insert=True, using=self.database)

    # --- rows -------------------------------------------------------------------------------------

    def _load(self, events: Sequence[Event]) -> None:
        wanted = {_row_id(event): event for event in reversed(events)}
        told = {
            _row_id(event): event.detail
            for event in events
            if not event.name and "name" in event.detail
        }
        self.rows = JobRecord.objects.using(self.database).in_bulk(list(wanted))
        unknown = [
            event for row_id, event in wanted.items() if row_id not in self.rows and not event.name
        ]
        if not unknown:
            return
        with self.connection.pipeline(transaction=False) as pipeline:
            for event in unknown:
                pipeline.hmget(keys.job(event.job_id), _NAME_OF_FOREIGN)
            for event, found in zip(unknown, pipeline.execute(), strict=True):
                row = _foreign_row(event, told.get(_row_id(event)), found)
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

    def _ran(self, row: JobRecord, event: Event) -> None:
        if "run" in event.detail:
            self.counts.time("run", event.detail["run"], row.queue, row.name, event.at)

    def _finish(self, row: JobRecord, event: Event, state: JobState) -> None:
        if event.generation >= row.replays:
            row.state = state
            row.finished_at = event.at
            self.final.append(event.job_id)

    # --- one method an event ----------------------------------------------------------------------

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
        self._ran(row, event)
        self._finish(row, event, JobState.COMPLETED)
        row.result = json.loads(event.detail["result"]) if event.detail.get("result") else None
        row.progress, row.error = 100, ""

    def retried(self, row: JobRecord, event: Event) -> None:
        self._ran(row, event)
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
        self._ran(row, event)
        reason = FailureReason(event.detail.get("reason") or FailureReason.EXHAUSTED)
        outcomes = {
            FailureReason.CRASHED: AttemptOutcome.CRASHED,
            FailureReason.TIMEOUT: AttemptOutcome.TIMEOUT,
        }
        self._attempt(row, event, outcomes.get(reason, AttemptOutcome.FAILED))
        self._finish(row, event, JobState.FAILED)
        message = event.detail.get("message", "")
        row.error = message
        row.attempts = event.attempt

        letter, entry = bury(
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


_APPLY = {
    EventName.ENQUEUED: Fold.enqueued,
    EventName.REPLAYED: Fold.enqueued,
    EventName.STARTED: Fold.started,
    EventName.PROGRESSED: Fold.progressed,
    EventName.COMPLETED: Fold.completed,
    EventName.RETRIED: Fold.retried,
    EventName.SNOOZED: Fold.snoozed,
    EventName.FAILED: Fold.failed,
    EventName.CANCELED: Fold.canceled,
    EventName.RESCUED: Fold.rescued,
}


def _is_repetition(row: JobRecord, event: Event) -> bool:
    """Tell whether the statistics have this: a job is enqueued when it comes, not when its delay is over, and a
    tombstone that a late push meets tells of its cancelling again."""
    if event.event is EventName.ENQUEUED:
        return row.enqueued_at is not None
    return event.event is EventName.CANCELED and row.state == JobState.CANCELED


def _row_id(event: Event) -> uuid.UUID:
    """Return the primary key of an event's row: jobs of foreign code have a derived one."""
    known = ids.parse_id(event.job_id) if event.name else None
    return known or ids.derived_id("rq", event.job_id)


def _foreign_row(
    event: Event, told: dict[str, Any] | None, found: Sequence[bytes | None]
) -> JobRecord:
    """Make the row of a foreign job from what its end told, since RQ may have deleted it, or from its hash."""
    data, description, created = found
    call: dict[str, Any] = told or (read_call(data) if data else None) or {}
    made = broker.text(created)
    return JobRecord(
        id=_row_id(event),
        rq_id=event.job_id[:180],
        name=str(call.get("name") or storable(broker.text(description)) or "(unknown)")[:180],
        queue=event.queue[:100],
        data=call.get("data", {}),
        max_attempts=1,
        created_at=datetime.fromisoformat(made) if made else event.at,
    )


def _log(row: JobRecord, event: Event) -> JobLog:
    lines, dropped = event.detail["log"], event.detail.get("log_dropped", 0)
    return JobLog(
        job=row, replay=event.generation, number=event.attempt, lines=lines, dropped=dropped
    )
