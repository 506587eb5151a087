"""Revival: failed jobs go back to where they were before their first attempt, and what they held up goes on."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import models, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from ..broker.queues import push_records
from ..enqueueing import dependencies
from ..errors import InvalidOperation
from ..models import AuditEntry, DeadLetter, JobRecord
from ..states import DeadLetterStatus, EventName, JobState
from .audit import Act

FRESH: dict[str, Any] = {
    "state": JobState.WAITING,
    "attempts": 0,
    "progress": 0,
    "progress_message": "",
    "error": "",
    "result": None,
    "worker": "",
    "run_at": None,
    "enqueued_at": None,
    "started_at": None,
    "finished_at": None,
}
"""The columns of a job that is about to run as if for the first time."""


def revive(jobs: models.QuerySet[JobRecord], using: str, act: Act, action: str) -> list[JobRecord]:
    """Take failed jobs back to waiting and close their open letters, once, whoever else tries at the same time.

    The rows are locked, and where a database cannot lock rows (SQLite) the conditional UPDATE
    decides. What ended only because these jobs had failed is blocked again, and so are those of
    them that need one another.

    Raises:
        InvalidOperation: somebody else was faster.
    """
    with transaction.atomic(using=using):
        failed = jobs.using(using).filter(state=JobState.FAILED, rq_id=None).order_by("pk")
        found = {record.pk: record for record in failed.select_for_update()}
        letters = DeadLetter.objects.using(using).filter(
            job_id__in=found, status=DeadLetterStatus.OPEN
        )
        letter_of = dict(letters.values_list("job_id", "pk"))
        close(letters, DeadLetterStatus.REPLAYED, act)
        rows = JobRecord.objects.using(using).filter(pk__in=found, state=JobState.FAILED)
        if rows.update(**FRESH, replays=F("replays") + 1) != len(found):
            raise InvalidOperation(
                _("Somebody else retried some of these jobs; nothing was changed")
            )
        AuditEntry.objects.using(using).bulk_create(
            _entry(act, action, record, letter_of.get(record.pk)) for record in found.values()
        )
        blocked = dependencies.revive(found.values(), using)
        revived = list(JobRecord.objects.using(using).filter(pk__in=found).order_by("pk"))
        ready = [record for record in revived if record.pk not in blocked]
        if ready:
            push = partial(push_records, ready, event=EventName.REPLAYED)
            transaction.on_commit(push, using=using, robust=True)
    return revived


def close(letters: models.QuerySet[DeadLetter], status: DeadLetterStatus, act: Act) -> int:
    """Close dead letters; return how many."""
    actor = act.by.pk if act.by is not None else None
    return letters.update(
        status=status, resolved_by_id=actor, resolved_at=timezone.now(), note=act.reason
    )


def _entry(act: Act, action: str, record: JobRecord, letter: int | None) -> AuditEntry:
    if action == "replayed":
        return act.entry(action, "dead_letter", letter, job=str(record.pk), name=record.name)
    return act.entry(action, "job", record.pk, name=record.name, dead_letter=letter)
