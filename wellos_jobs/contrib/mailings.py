"""Results of bulk email, read from the job rows: sent, failed, possible duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q

from .. import JobHandle, JobState
from ..models import JobAttempt, JobRecord
from ..states import AttemptOutcome
from .mail_connection import AnswerLost

CHUNK = 500
_ANSWER_LOST = f"{AnswerLost.__module__}.{AnswerLost.__qualname__}"
_NO_ANSWER = Q(error_class=_ANSWER_LOST) | Q(
    outcome__in=[AttemptOutcome.CRASHED, AttemptOutcome.TIMEOUT]
)


@dataclass(slots=True)
class Mailing:
    """Recipients of bulk email, grouped by result."""

    sent: list[str] = field(default_factory=list)
    """The server accepted the message."""
    failed: dict[str, str] = field(default_factory=dict)
    """The job failed; the value is its error."""
    canceled: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    """The job has not ended yet."""
    possible_duplicates: list[str] = field(default_factory=list)
    """The reply was lost or the worker died while sending, and the message is sent again."""


def outcome(handles: Iterable[JobHandle]) -> Mailing:
    """Return the results so far of ``send_bulk_emails``. Takes two queries for each 500 emails."""
    mailing = Mailing()
    for database, ids in _chunks(handles):
        records = JobRecord.objects.using(database).in_bulk(ids)
        for job_id in ids:
            record = records.get(job_id)
            if record is not None:  # else it has been pruned
                _add(mailing, JobState(record.state), record.data["to"], record.error)

        attempts = JobAttempt.objects.using(database).filter(_NO_ANSWER, job__in=ids).order_by()
        addresses = {data["to"] for (data,) in attempts.values_list("job__data")}
        mailing.possible_duplicates += sorted(addresses)
    return mailing


def _add(mailing: Mailing, state: JobState, to: str, error: str) -> None:
    if state == JobState.FAILED:
        mailing.failed[to] = error
    elif state == JobState.COMPLETED:
        mailing.sent.append(to)
    elif state == JobState.CANCELED:
        mailing.canceled.append(to)
    else:
        mailing.open.append(to)


def _chunks(handles: Iterable[JobHandle]) -> Iterator[tuple[str, list[Any]]]:
    by_database: dict[str, list[Any]] = defaultdict(list)
    for handle in handles:
        by_database[handle.database].append(handle.id)
    for database, ids in by_database.items():
        for start in range(0, len(ids), CHUNK):
            yield database, ids[start : start + CHUNK]
