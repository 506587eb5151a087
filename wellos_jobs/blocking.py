"""Blocking: jobs that need others first, from their INSERT until the last of those has ended.

The rows decide, under row locks: a job that is enqueued while the one it needs ends is either blocked and then released
by the ledger, or finds it ended. Redis hears of a job only when it may run.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from .errors import BadOption
from .queues import push_records
from .states import FINAL_STATES, BatchState, JobState, OnFailure

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .models import Batch, JobRecord


def before_insert(records: Sequence[JobRecord], database: str) -> None:
    """Set the state of new jobs that need others: blocked, or as it was when those have ended already.

    The rows of the needed jobs stay locked until the caller's transaction ends.

    Raises:
        BadOption: a needed job is neither in the database nor among the new ones.
    """
    from .models import JobRecord

    new = {record.pk for record in records}
    wanted = {needed for record in records for needed in record.needs} - new
    rows = JobRecord.objects.using(database).select_for_update().filter(pk__in=wanted).order_by("pk")
    states = dict(rows.values_list("pk", "state"))
    if missing := wanted - states.keys():
        raise BadOption(f"depends_on names {min(map(str, missing))}, which is no job in the database {database!r}")
    for record in records:
        if not record.needs:
            continue
        verdict = _verdict([states.get(needed, JobState.BLOCKED) for needed in record.needs], record.on_failure)
        if verdict is None:
            record.state = JobState.BLOCKED
        elif verdict != JobState.WAITING:
            raise BadOption(f"{record.name} depends on a job that has failed or was cancelled: it could never run")


def after_insert(records: Iterable[JobRecord], database: str) -> None:
    """Store what new jobs need."""
    from .models import JobDependency

    JobDependency.objects.using(database).bulk_create(
        JobDependency(job_id=record.pk, needs_id=needed) for record in records for needed in dict.fromkeys(record.needs)
    )


def release(ended: Collection[uuid.UUID], database: str) -> None:
    """Let go on what waited for jobs that have ended: jobs that need them, and batches they belong to.

    Call it inside the transaction that stored their end. Whatever runs twice changes nothing.
    """
    from .models import JobRecord

    batches: set[uuid.UUID] = set()
    ready: list[JobRecord] = []
    frontier = set(ended)
    while frontier:
        rows = JobRecord.objects.using(database).filter(pk__in=frontier, batch__isnull=False)
        batches.update(rows.values_list("batch_id", flat=True))
        freed, ended_too = _release_dependents(frontier, database)
        ready += freed
        frontier = ended_too
        if not frontier and batches:
            callbacks, ended_too = finish_batches(batches, database)
            ready += callbacks
            batches, frontier = set(), ended_too
    push_on_commit(ready, database)


def finish_batches(batches: Collection[uuid.UUID], database: str) -> tuple[list[JobRecord], set[uuid.UUID]]:
    """Count the jobs of batches anew; finish those that are closed and have no open job.

    Returns the callbacks that may run now, and the ids of those that never will.
    """
    from .models import Batch, JobRecord

    ready: list[JobRecord] = []
    ended: set[uuid.UUID] = set()
    for batch in Batch.objects.using(database).select_for_update().filter(pk__in=batches).order_by("pk"):
        counts = _counts(batch, database)
        still_open = counts.pop("open")
        row = Batch.objects.using(database).filter(pk=batch.pk)
        row.update(**counts)
        if batch.state != BatchState.CLOSED or still_open:
            continue
        row.update(state=BatchState.DONE, finished_at=timezone.now())
        clean = not counts["failed"] and not counts["canceled"]
        for callback, runs in ((batch.on_complete_id, True), (batch.on_success_id, clean)):
            if callback is None:
                continue
            if runs:
                ready += unblock(JobRecord.objects.using(database).filter(pk=callback), database)
            elif _end(callback, JobState.CANCELED, "Not every job of the batch has completed", database):
                ended.add(callback)
    return ready, ended


def unblock(rows: QuerySet[JobRecord], database: str) -> list[JobRecord]:
    """Make blocked jobs wait or delayed; return those that were blocked."""
    found: list[JobRecord] = []
    for record in rows.filter(state=JobState.BLOCKED):
        later = record.run_at is not None and record.run_at > timezone.now()
        state = JobState.DELAYED if later else JobState.WAITING
        same = type(record).objects.using(database).filter(pk=record.pk, state=JobState.BLOCKED)
        if same.update(state=state, enqueued_at=None):
            record.state = state
            found.append(record)
    return found


def push_on_commit(records: Sequence[JobRecord], database: str) -> None:
    """Push jobs that may run now once the transaction commits."""
    if records:
        transaction.on_commit(partial(push_records, list(records)), using=database, robust=True)


def heal(database: str, limit: int = 500) -> None:
    """Release what no open job holds back any more, in case a release was lost."""
    from .models import Batch, JobDependency

    held = JobDependency.objects.using(database).filter(job__state=JobState.BLOCKED)
    ended = set(held.filter(needs__state__in=FINAL_STATES).values_list("needs_id", flat=True)[:limit])
    closed = Batch.objects.using(database).filter(state=BatchState.CLOSED)
    with transaction.atomic(using=database):
        if ended:
            release(ended, database)
        ready, _ = finish_batches(list(closed.values_list("pk", flat=True)[:limit]), database)
        push_on_commit(ready, database)


def _release_dependents(ended: set[uuid.UUID], database: str) -> tuple[list[JobRecord], set[uuid.UUID]]:
    """Return the dependents that may run now, and those that have ended because what they need has."""
    from .models import JobDependency, JobRecord

    edges = JobDependency.objects.using(database)
    waiting = set(edges.filter(needs_id__in=ended, job__state=JobState.BLOCKED).values_list("job_id", flat=True))
    needs: dict[uuid.UUID, list[str]] = {}
    for job_id, state in edges.filter(job_id__in=waiting).values_list("job_id", "needs__state"):
        needs.setdefault(job_id, []).append(state)
    ready: list[JobRecord] = []
    ended_too: set[uuid.UUID] = set()
    rows = JobRecord.objects.using(database).filter(pk__in=waiting)
    for job_id, on_failure in rows.values_list("pk", "on_failure"):
        verdict = _verdict(needs[job_id], on_failure)
        if verdict == JobState.WAITING:
            ready += unblock(JobRecord.objects.using(database).filter(pk=job_id), database)
        elif verdict is not None and _end(job_id, verdict, "A job it needs did not complete", database):
            ended_too.add(job_id)
    return ready, ended_too


def _verdict(states: Sequence[str], on_failure: str) -> JobState | None:
    """Return what becomes of a job by the states of those it needs: WAITING to run, None to stay blocked."""
    bad = {JobState.FAILED, JobState.CANCELED} & set(map(JobState, states))
    if bad and on_failure != OnFailure.RUN:
        return JobState.CANCELED if on_failure == OnFailure.CANCEL else JobState.FAILED
    return JobState.WAITING if all(JobState(state).is_final for state in states) else None


def _end(job_id: uuid.UUID, state: JobState, why: str, database: str) -> bool:
    """End a job that never ran; a failed one gets its dead letter."""
    from .models import DeadLetter, JobRecord
    from .states import FailureReason

    rows = JobRecord.objects.using(database).filter(pk=job_id, state=JobState.BLOCKED)
    now = timezone.now()
    if not rows.update(state=state, finished_at=now, error=why):
        return False
    if state == JobState.FAILED:
        DeadLetter.objects.using(database).create(
            job_id=job_id,
            reason=FailureReason.NOT_RETRYABLE,
            error_class="NeededJobFailed",
            message=why,
            fingerprint="needed-job",
            created_at=now,
        )
    return True


def _counts(batch: Batch, database: str) -> dict[str, int]:
    from django.db.models import Count

    from .models import JobRecord

    rows = JobRecord.objects.using(database).filter(batch=batch).order_by()
    by_state = dict(rows.values_list("state").annotate(Count("pk")))
    final = {state.value: by_state.get(state, 0) for state in FINAL_STATES}
    total = sum(by_state.values())
    return {"total": total, **final, "open": total - sum(final.values())}
