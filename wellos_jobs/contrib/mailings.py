"""How many mails at once went, told from the ledger: who got one, who did not and why, and who may have got two."""

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
    """The recipients of many mails by what became of theirs."""

    sent: list[str] = field(default_factory=list)
    """The server took the message."""
    failed: dict[str, str] = field(default_factory=dict)
    """It was given up: the server's refusal, or whatever else was wrong."""
    canceled: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    """It waits, or waits to be tried again."""
    perhaps_twice: list[str] = field(default_factory=list)
    """The server's answer was lost, or the worker died at it: the message was, or will be, sent again."""


def outcome(handles: Iterable[JobHandle]) -> Mailing:
    """Return how the mails of ``send_bulk_emails`` went so far. Two queries for each 500 of them."""
    mailing = Mailing()
    for database, ids in _chunks(handles):
        records = JobRecord.objects.using(database).in_bulk(ids)
        for record in filter(
            None, map(records.get, ids)
        ):  # in the order of the handles; a row may have been pruned
            _sort_in(mailing, JobState(record.state), record.data["to"], record.error)
        attempts = JobAttempt.objects.using(database).filter(_NO_ANSWER, job__in=ids).order_by()
        mailing.perhaps_twice += sorted(
            {data["to"] for (data,) in attempts.values_list("job__data")}
        )
    return mailing


def _sort_in(mailing: Mailing, state: JobState, to: str, error: str) -> None:
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
