"""The timeline of a job: what happened and when, from its rows. Pure functions, no queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from ..models import AuditEntry, DeadLetter, JobAttempt, JobRecord
from ..states import AttemptOutcome, AuditAction, JobState


@dataclass(frozen=True)
class Moment:
    """One entry. ``word`` selects its badge; ``took`` is the duration in seconds, if any."""

    at: datetime
    word: str
    text: str
    detail: str = ""
    took: float | None = None
    gap: float | None = None
    """Seconds since the previous entry."""
    is_due: bool = False
    """Whether it is in the future."""


def timeline(
    job: JobRecord,
    attempts: Iterable[JobAttempt] = (),
    dead_letters: Iterable[DeadLetter] = (),
    entries: Iterable[AuditEntry] = (),
) -> list[Moment]:
    """Return what happened to a job, oldest first, each with the time since the previous entry.

    The row has the last run and the last time it was enqueued; earlier runs come from the attempts.
    """
    tried = list(attempts)
    found = [
        *_beginning(job, tried),
        *(moment for attempt in tried for moment in _attempt(attempt)),
        *_last_run(job, tried),
        *(_dead_letter(dead_letter) for dead_letter in dead_letters),
        *(moment for entry in entries for moment in _operator_action(entry)),
        *_upcoming(job),
    ]
    return list(_with_gaps(sorted(found, key=lambda moment: moment.at)))


def _with_gaps(moments: Sequence[Moment]) -> Iterator[Moment]:
    previous: datetime | None = None
    for moment in moments:
        gap = (moment.at - previous).total_seconds() if previous else None
        yield replace(moment, gap=gap)
        previous = moment.at


def _beginning(job: JobRecord, tried: list[JobAttempt]) -> Iterator[Moment]:
    yield Moment(job.created_at, "created", _("Created"))
    if job.enqueued_at is None:
        return
    again = job.replays or any(attempt.ended_at <= job.enqueued_at for attempt in tried)
    text = _("Enqueued again") if again else _("Enqueued")
    yield Moment(job.enqueued_at, "enqueued", text, _("in queue %(queue)s") % {"queue": job.queue})


def _attempt(attempt: JobAttempt) -> Iterator[Moment]:
    number = {"n": attempt.number}
    if attempt.started_at is not None:
        yield Moment(
            attempt.started_at,
            "started",
            _("Attempt %(n)d started") % number,
            _on_worker(attempt.worker),
        )

    class_name = attempt.error_class.rpartition(".")[2]
    error = f"{class_name}: {attempt.message}".removeprefix(": ").strip(": ")
    yield Moment(
        attempt.ended_at,
        attempt.outcome,
        _("Attempt %(n)d: %(outcome)s")
        % {**number, "outcome": AttemptOutcome(attempt.outcome).label},
        error.partition("\n")[0][:200],
        _seconds(attempt.started_at, attempt.ended_at),
    )


def _last_run(job: JobRecord, tried: list[JobAttempt]) -> Iterator[Moment]:
    """Yield the run that the row has, unless it is one of the attempts that did not complete."""
    if job.started_at is not None and all(
        attempt.started_at != job.started_at for attempt in tried
    ):
        yield Moment(
            job.started_at,
            "started",
            _("Attempt %(n)d started") % {"n": job.attempts},
            _on_worker(job.worker),
        )

    if job.finished_at is None or job.state not in (JobState.COMPLETED, JobState.CANCELED):
        return
    text = _("Completed") if job.state == JobState.COMPLETED else _("Canceled")
    took = _seconds(job.started_at, job.finished_at) if job.state == JobState.COMPLETED else None
    yield Moment(job.finished_at, job.state, text, "", took)


def _dead_letter(dead_letter: DeadLetter) -> Moment:
    return Moment(
        dead_letter.created_at,
        "failed",
        _("Failed for good: a dead letter was created"),
        dead_letter.get_reason_display(),
    )


def _operator_action(entry: AuditEntry) -> Iterator[Moment]:
    """Yield the entry of an operator action. A final failure is shown by its attempt."""
    if entry.action not in _TEXTS:
        return
    who = _("by %(name)s") % {"name": entry.actor_name} if entry.actor_name else ""
    yield Moment(
        entry.at,
        entry.action,
        _TEXTS[entry.action](entry.detail),
        ": ".join(filter(None, (who, entry.reason))),
    )


_TEXTS: dict[str, Any] = {
    AuditAction.RETRIED: lambda detail: (
        _("Promoted to run now") if detail.get("promoted") else _("Retried with fresh attempts")
    ),
    AuditAction.REPLAYED: lambda detail: _("Replayed with fresh attempts"),
    AuditAction.DISCARDED: lambda detail: _("Dead letter discarded"),
    AuditAction.ASSIGNED: lambda detail: (
        _("Dead letter assigned to %(name)s") % {"name": detail.get("to") or _("no one")}
    ),
    AuditAction.CANCELED: lambda detail: _("Cancellation requested"),
    AuditAction.PROMOTED: lambda detail: _("Promoted to run now"),
    AuditAction.MOVED: lambda detail: (
        _("Moved to queue %(queue)s") % {"queue": detail.get("queue", "")}
    ),
    AuditAction.CHANGED_PRIORITY: lambda detail: (
        _("Priority changed to %(priority)s") % {"priority": detail.get("priority", "")}
    ),
    AuditAction.EDITED: lambda detail: (
        _("Data changed: %(names)s") % {"names": ", ".join(detail.get("changed", []))}
    ),
    AuditAction.ENQUEUED: lambda detail: (
        _("Created as a copy of job %(job)s") % {"job": detail.get("copy_of", "")}
    ),
}


def _upcoming(job: JobRecord) -> Iterator[Moment]:
    if job.state == JobState.DELAYED and job.run_at is not None:
        text = _("Due for its next attempt") if job.attempts else _("Due")
        yield Moment(job.run_at, "delayed", text, is_due=True)


def _on_worker(worker: str) -> str:
    return _("on worker %(worker)s") % {"worker": worker} if worker else ""


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return max(timedelta(0), end - start).total_seconds() if start and end else None
