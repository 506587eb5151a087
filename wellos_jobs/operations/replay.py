"""Reset failed jobs to waiting, and block again the jobs that had ended because they failed."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable

from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from ..database import run_on_commit
from ..enqueueing import dependencies
from ..enqueueing.chunks import in_chunks
from ..enqueueing.push import push_records
from ..errors import InvalidOperation
from ..models import AuditEntry, Batch, DeadLetter, JobDependency, JobRecord
from ..models.job import FRESH
from ..states import AuditAction, BatchState, DeadLetterStatus, EventName, JobState
from .audit import Actor


def revive(
    jobs: models.QuerySet[JobRecord], using: str, actor: Actor, action: AuditAction
) -> list[JobRecord]:
    """Reset failed jobs to waiting, close their open dead letters, and push them on commit.

    The rows are locked. Where a database cannot lock rows (SQLite) the conditional UPDATE decides,
    so each failure is replayed once, even when two operators try at the same time.

    Raises:
        InvalidOperation: another operator retried some of these jobs first.
    """
    with transaction.atomic(using=using):
        failed = jobs.using(using).filter(state=JobState.FAILED, rq_id=None).order_by("pk")
        found = {record.pk: record for record in failed.select_for_update()}

        dead_letters = DeadLetter.objects.using(using).filter(
            job_id__in=found, status=DeadLetterStatus.OPEN
        )
        letter_of = dict(dead_letters.values_list("job_id", "pk"))
        close(dead_letters, DeadLetterStatus.REPLAYED, actor)

        rows = JobRecord.objects.using(using).filter(pk__in=found, state=JobState.FAILED)
        if rows.update(**FRESH, replays=F("replays") + 1) != len(found):
            raise InvalidOperation(
                _("Another operator retried some of these jobs; nothing was changed")
            )

        AuditEntry.objects.using(using).bulk_create(
            _entry(actor, action, record, letter_of.get(record.pk)) for record in found.values()
        )
        blocked = block_again(found.values(), using)

        revived = list(JobRecord.objects.using(using).filter(pk__in=found).order_by("pk"))
        ready = [record for record in revived if record.pk not in blocked]
        if ready:
            run_on_commit(using, push_records, ready, EventName.REPLAYED)

    return revived


def close(dead_letters: models.QuerySet[DeadLetter], status: DeadLetterStatus, actor: Actor) -> int:
    """Close dead letters; return how many."""
    user = actor.by.pk if actor.by is not None else None
    return dead_letters.update(
        status=status, resolved_by_id=user, resolved_at=timezone.now(), note=actor.reason
    )


def why_not_retried(record: JobRecord) -> str:
    """Return why a job cannot be retried or replayed."""
    if record.is_foreign:
        text = _(
            "%(job)s was enqueued by plain RQ code: "
            "requeue it with `rq requeue` or on django-rq's pages"
        )
        return text % {"job": record}
    return _("%(job)s cannot be retried: it is %(state)s, and only failed and delayed jobs can") % {
        "job": record,
        "state": record.get_state_display(),
    }


def block_again(records: Iterable[JobRecord], using: str) -> set[uuid.UUID]:
    """Block the dependents of jobs that were reset, and those of the jobs that need one another.

    Only dependents that never ran and ended because these jobs failed are blocked. Done batches
    they belong to are closed again, so that they finish a second time. Call it inside the
    transaction that reset the jobs. Returns the ids that are blocked now.
    """
    batch_of = {record.pk: record.batch_id for record in records}
    edges = JobDependency.objects.using(using)
    linked = [
        chunk
        for chunk in in_chunks(batch_of)
        if edges.filter(Q(needs_id__in=chunk) | Q(job_id__in=chunk)).exists()
    ]

    blocked: set[uuid.UUID] = set()
    batches = set(batch_of.values())
    for chunk in linked:
        dependents, their_batches = _block_dependents(chunk, using)
        blocked |= dependents
        batches |= their_batches

    for chunk in linked:
        verdicts = dependencies.verdicts_on(chunk, using)
        held = {job_id for job_id, verdict in verdicts.items() if verdict is None}
        JobRecord.objects.using(using).filter(pk__in=held).update(state=JobState.BLOCKED)
        blocked |= held

    if reopened := {batch for batch in batches if batch is not None}:
        _reopen_batches(reopened, using)
    return blocked


def _block_dependents(
    job_ids: Iterable[uuid.UUID], using: str
) -> tuple[set[uuid.UUID], set[uuid.UUID | None]]:
    """Block the dependents that ended because these jobs failed; return their ids and batches."""
    ended = [JobState.CANCELED, JobState.FAILED]
    never_ran = JobDependency.objects.using(using).filter(
        job__state__in=ended, job__error=dependencies.NEEDED_FAILED, job__started_at=None
    )

    found: dict[uuid.UUID, uuid.UUID | None] = {}
    frontier = list(job_ids)
    while frontier:
        dependents: dict[uuid.UUID, uuid.UUID | None] = {}
        for chunk in in_chunks(frontier):
            edges = never_ran.filter(needs_id__in=chunk)
            dependents.update(edges.values_list("job_id", "job__batch_id"))

        for chunk in in_chunks(dependents):
            rows = JobRecord.objects.using(using).filter(pk__in=chunk, state__in=ended)
            rows.update(state=JobState.BLOCKED, finished_at=None, error="")
            dead_letters = DeadLetter.objects.using(using).filter(
                job_id__in=chunk, status=DeadLetterStatus.OPEN
            )
            dead_letters.update(status=DeadLetterStatus.REPLAYED, resolved_at=timezone.now())

        found |= dependents
        frontier = list(dependents)

    return set(found), set(found.values())


def _reopen_batches(batches: Collection[uuid.UUID], using: str) -> None:
    """Set done batches back to closed; block their canceled ``on_success`` and its dependents."""
    done = Batch.objects.using(using).filter(pk__in=batches, state=BatchState.DONE)
    callbacks = dict(done.values_list("pk", "on_success_id"))
    Batch.objects.using(using).filter(pk__in=callbacks).update(
        state=BatchState.CLOSED, finished_at=None
    )

    canceled = {"state": JobState.CANCELED, "error": dependencies.NOT_CLEAN}
    rows = JobRecord.objects.using(using).filter(pk__in=list(callbacks.values()), **canceled)
    waiting = list(rows.values_list("pk", flat=True))
    if waiting:
        rows.update(state=JobState.BLOCKED, finished_at=None, error="")
        _block_dependents(waiting, using)


def _entry(
    actor: Actor, action: AuditAction, record: JobRecord, dead_letter: int | None
) -> AuditEntry:
    if action == AuditAction.REPLAYED:
        return actor.entry(action, "dead_letter", dead_letter, job=str(record.pk), name=record.name)
    return actor.entry(action, "job", record.pk, name=record.name, dead_letter=dead_letter)
