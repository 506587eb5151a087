"""Blocking: jobs that need others first, from their INSERT until the last of those has ended.

The rows decide. A new job that needs others is blocked; the ledger releases it when the last of
them has ended, and the transaction that made it looks once more after its commit, in case that was
meanwhile. So neither ever waits for the other. Redis hears of a job only when it may run.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from django.db import connections, transaction
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone

from ..database import run_on_commit
from ..errors import BadOption
from ..states import (
    FINAL_STATES,
    OPEN_STATES,
    BatchState,
    FailureReason,
    JobState,
    OnFailure,
)
from . import cycles
from .push import push_records

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from ..models import Batch, JobRecord

NEEDED_FAILED = "A job it needs did not complete"
NEEDED_JOB_FAILED = "NeededJobFailed"
"""What stands as the class of the error, though none was raised."""
NOT_CLEAN = "Not every job of the batch has completed"
CHUNK = 500
"""Ids in one statement: databases have a limit on parameters."""

T = TypeVar("T")


def before_insert(records: Sequence[JobRecord], database: str) -> None:
    """Block new jobs that need others, whatever the state of those; ``after_commit`` looks at that.

    Raises:
        BadOption: a needed job is neither in the database nor among the new ones, or would wait for
            the one that
            needs it.
    """
    from ..models import JobRecord

    wanted = {needed for record in records for needed in record.needs} - {
        record.pk for record in records
    }
    known: set[uuid.UUID] = set()
    for chunk in in_chunks(wanted):
        known.update(
            JobRecord.objects.using(database).filter(pk__in=chunk).values_list("pk", flat=True)
        )
    if missing := wanted - known:
        raise BadOption(
            f"depends_on names {min(map(str, missing))}, which is no job in the database {database!r}"
        )
    cycles.refuse(records, database)
    for record in records:
        if record.needs:
            record.state = JobState.BLOCKED


def after_insert(records: Iterable[JobRecord], database: str) -> None:
    """Store what new jobs need."""
    from ..models import JobDependency

    JobDependency.objects.using(database).bulk_create(
        JobDependency(job_id=record.pk, needs_id=needed)
        for record in records
        for needed in dict.fromkeys(record.needs)
    )


def after_commit(records: Iterable[JobRecord], database: str) -> None:
    """Release new jobs whose needed jobs had ended before their rows could be seen. The ledger may do so as well."""
    from ..models import JobRecord

    needed = {needed for record in records for needed in record.needs}
    ended: set[uuid.UUID] = set()
    for chunk in in_chunks(needed):
        rows = JobRecord.objects.using(database).filter(pk__in=chunk, state__in=FINAL_STATES)
        ended.update(rows.values_list("pk", flat=True))
    if ended:
        with transaction.atomic(using=database):
            release(ended, database)


def release(ended: Collection[uuid.UUID], database: str) -> None:
    """Let go on what waited for jobs that have ended: jobs that need them, and batches they belong to.

    Call it inside the transaction that stored their end. Whatever runs twice changes nothing.
    """
    from ..models import JobRecord

    batches: set[uuid.UUID] = set()
    ready: list[JobRecord] = []
    frontier = set(ended)
    while frontier:
        ended_too: set[uuid.UUID] = set()
        for chunk in in_chunks(frontier):
            rows = JobRecord.objects.using(database).filter(pk__in=chunk, batch__isnull=False)
            batches.update(rows.order_by().values_list("batch_id", flat=True).distinct())
            freed, ended_now = _release_dependents(chunk, database)
            ready += freed
            ended_too |= ended_now
        frontier = ended_too
        if not frontier and batches:
            callbacks, frontier = finish_batches(batches, database)
            ready += callbacks
            batches = set()
    push_on_commit(ready, database)


def finish_batches(
    batches: Collection[uuid.UUID], database: str
) -> tuple[list[JobRecord], set[uuid.UUID]]:
    """Finish those of these batches that are closed and have no open job; only then are their jobs counted.

    So the end of a job costs the same in a batch of ten and of a hundred thousand. Returns the
    callbacks that may run now, and the ids of those that never will. A batch whose row is locked is
    passed over, for somebody is adding jobs to it, and must not hold the ledger up; ``heal`` comes
    back to it.
    """
    from ..models import Batch, JobRecord

    ready: list[JobRecord] = []
    ended: set[uuid.UUID] = set()
    skip = connections[database].features.has_select_for_update_skip_locked
    rows = Batch.objects.using(database).select_for_update(skip_locked=skip)
    for batch in rows.filter(pk__in=batches).order_by("pk"):
        if batch.state != BatchState.CLOSED or _has_open_job(batch, database):
            continue
        counts = _counts(batch, database)
        row = Batch.objects.using(database).filter(pk=batch.pk)
        row.update(state=BatchState.DONE, finished_at=timezone.now(), **counts)
        clean = not counts["failed"] and not counts["canceled"]
        for callback, runs in ((batch.on_complete_id, True), (batch.on_success_id, clean)):
            if callback is None:
                continue
            if runs:
                ready += unblock(JobRecord.objects.using(database).filter(pk=callback), database)
            elif end(callback, JobState.CANCELED, NOT_CLEAN, database):
                ended.add(callback)
    return ready, ended


def settle_batches(batches: Collection[uuid.UUID], database: str) -> None:
    """Finish what can be finished of these batches, with all that follows from it. Call it inside a transaction."""
    ready, ended = finish_batches(batches, database)
    push_on_commit(ready, database)
    if ended:
        release(ended, database)


def unblock(rows: QuerySet[JobRecord], database: str) -> list[JobRecord]:
    """Make blocked jobs wait or delayed; return those that were blocked."""
    found: list[JobRecord] = []
    blocked = list(rows.filter(state=JobState.BLOCKED).order_by("pk").select_for_update())
    now = timezone.now()
    for record in blocked:
        record.state = (
            JobState.DELAYED
            if record.run_at is not None and record.run_at > now
            else JobState.WAITING
        )
    for state in (JobState.WAITING, JobState.DELAYED):
        chosen = [record for record in blocked if record.state == state]
        same = (
            type(chosen[0]).objects.using(database).filter(state=JobState.BLOCKED)
            if chosen
            else None
        )
        if same is not None and same.filter(pk__in=[r.pk for r in chosen]).update(
            state=state, enqueued_at=None
        ):
            found += chosen
    return found


def push_on_commit(records: Sequence[JobRecord], database: str) -> None:
    """Push jobs that may run now once the transaction commits."""
    if records:
        run_on_commit(database, push_records, list(records))


def heal(database: str, limit: int = CHUNK) -> None:
    """Release what no open job holds back any more, in case a release was lost or a locked batch was passed over."""
    from ..models import Batch, JobDependency, JobRecord

    edges = JobDependency.objects.using(database).filter(job=OuterRef("pk"))
    lost = edges.filter(needs__state__in=[JobState.FAILED, JobState.CANCELED])
    freed = ~Exists(edges.filter(needs__state__in=OPEN_STATES)) | (
        Exists(lost) & ~Q(on_failure=OnFailure.RUN)
    )
    blocked = JobRecord.objects.using(database).filter(Exists(edges), freed, state=JobState.BLOCKED)
    needed = JobDependency.objects.using(database).filter(
        job__in=list(blocked.values_list("pk", flat=True)[:limit])
    )
    open_jobs = JobRecord.objects.using(database).filter(
        batch=OuterRef("pk"), state__in=OPEN_STATES
    )
    closed = Batch.objects.using(database).filter(~Exists(open_jobs), state=BatchState.CLOSED)
    with transaction.atomic(using=database):
        release(
            set(needed.filter(needs__state__in=FINAL_STATES).values_list("needs_id", flat=True)),
            database,
        )
        settle_batches(list(closed.values_list("pk", flat=True)[:limit]), database)


def _release_dependents(
    ended: Collection[uuid.UUID], database: str
) -> tuple[list[JobRecord], set[uuid.UUID]]:
    """Return the dependents that may run now, and those that have ended because what they need has."""
    from ..models import JobDependency, JobRecord

    edges = JobDependency.objects.using(database)
    waiting = set(
        edges.filter(needs_id__in=ended, job__state=JobState.BLOCKED).values_list(
            "job_id", flat=True
        )
    )
    ready: list[JobRecord] = []
    ended_too: set[uuid.UUID] = set()
    for chunk in in_chunks(waiting):
        verdicts = verdicts_on(chunk, database)
        free = [job_id for job_id, verdict in verdicts.items() if verdict == JobState.WAITING]
        ready += (
            unblock(JobRecord.objects.using(database).filter(pk__in=free), database) if free else []
        )
        for job_id, verdict in verdicts.items():
            over = verdict in FINAL_STATES
            if over and end(job_id, JobState(str(verdict)), NEEDED_FAILED, database):
                ended_too.add(job_id)
    return ready, ended_too


def verdicts_on(jobs: Collection[uuid.UUID], database: str) -> dict[uuid.UUID, JobState | None]:
    """Return what becomes of jobs that need others, by the states of those: WAITING to run, None to stay blocked."""
    from ..models import JobDependency

    edges = JobDependency.objects.using(database).filter(job_id__in=jobs)
    needs: dict[uuid.UUID, list[str]] = {}
    policies: dict[uuid.UUID, str] = {}
    for job_id, policy, state in edges.values_list("job_id", "job__on_failure", "needs__state"):
        needs.setdefault(job_id, []).append(state)
        policies[job_id] = policy
    return {job_id: _verdict(states, policies[job_id]) for job_id, states in needs.items()}


def _verdict(states: Sequence[str], on_failure: str) -> JobState | None:
    bad = {JobState.FAILED, JobState.CANCELED} & set(map(JobState, states))
    if bad and on_failure != OnFailure.RUN:
        return JobState.CANCELED if on_failure == OnFailure.CANCEL else JobState.FAILED
    return JobState.WAITING if all(JobState(state).is_final for state in states) else None


def end(job_id: uuid.UUID, state: JobState, why: str, database: str) -> bool:
    """End a blocked job, which never ran; a failed one gets its dead letter. Tells whether it was blocked."""
    from ..models import JobRecord

    rows = JobRecord.objects.using(database).filter(pk=job_id, state=JobState.BLOCKED)
    now = timezone.now()
    if not rows.update(state=state, finished_at=now, error=why):
        return False
    if state == JobState.FAILED:
        _bury(JobRecord.objects.using(database).get(pk=job_id), why, now)
    return True


def _bury(record: JobRecord, why: str, now: datetime) -> None:
    """Make the dead letter and the audit entry of a job that failed without having run."""
    from ..models.dead_letter import bury

    for row in bury(
        record,
        reason=FailureReason.NOT_RETRYABLE,
        error_class=NEEDED_JOB_FAILED,
        message=why,
        attempts=0,
        failed_at=now,
    ):
        row.save(using=record._state.db)


def _has_open_job(batch: Batch, database: str) -> bool:
    """Tell it by one entry of the index on batch and state.

    A range and its order make PostgreSQL take that index. Asked for any row in a state that is
    frequent, it would begin to read the table, which begins with what has ended.
    """
    from ..models import JobRecord

    rows = (
        JobRecord.objects.using(database).filter(batch=batch).order_by("state").values_list("state")
    )
    return any(
        rows.filter(state__gte=state, state__lte=state)[:1]
        for state in sorted(OPEN_STATES, reverse=True)
    )


def _counts(batch: Batch, database: str) -> dict[str, int]:
    from ..models import JobRecord

    rows = JobRecord.objects.using(database).filter(batch=batch).order_by()
    by_state = dict(rows.values_list("state").annotate(Count("pk")))
    final = {state.value: by_state.get(state, 0) for state in FINAL_STATES}
    return {"total": sum(by_state.values()), **final}


def in_chunks(things: Iterable[T]) -> Iterator[list[T]]:
    """Split into lists short enough for the parameters of one statement."""
    rest = iter(things)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
