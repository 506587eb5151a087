"""Dependencies: jobs that need others first, from their INSERT until the last of those has ended.

The rows decide. A new job that needs others is blocked. The ledger releases it when the last of
them has ended; the transaction that inserted it checks again after its commit, in case that
happened in the meantime. So neither waits for the other. A job is pushed to Redis only when it may
run.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from django.db import connections, transaction
from django.db.models import Count, Exists, OuterRef, Q
from django.dispatch import Signal
from django.utils import timezone

from .. import signals
from ..database import current, has_snapshot, run_on_commit
from ..errors import BadOption
from ..states import (
    FINAL_STATES,
    OPEN_STATES,
    BatchState,
    EventName,
    FailureReason,
    JobState,
    OnFailure,
)
from . import cycles
from .chunks import CHUNK, in_chunks
from .push import announce, push_records

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from ..models import Batch, DeadLetter, JobRecord

dead_letters_saved = Signal()
"""Sent with ``letters`` and ``database`` inside the transaction that made them: for the mails."""

NEEDED_FAILED = "A job it needs did not complete"
NEEDED_JOB_FAILED = "NeededJobFailed"
"""Stored as the class of the error, though none was raised."""
NOT_CLEAN = "Not every job of the batch has completed"


def before_insert(records: Sequence[JobRecord], database: str) -> None:
    """Block each new job that needs others, even if those have already ended.

    ``after_commit`` then releases it.

    Raises:
        BadOption: a needed job is neither in the database nor among the new ones, or the
            dependency is a cycle.
    """
    from ..models import JobRecord

    new = {record.pk for record in records}
    wanted = {needed for record in records for needed in record.needs} - new
    known: set[uuid.UUID] = set()
    for chunk in in_chunks(wanted):
        rows = JobRecord.objects.using(database).filter(pk__in=chunk)
        known.update(rows.values_list("pk", flat=True))

    if (newer := wanted - known) and has_snapshot(database):
        rows = JobRecord.objects.using(database).filter(pk__in=newer)
        known.update(record.pk for record in current(rows.order_by()))
    if missing := wanted - known:
        raise BadOption(
            f"depends_on has {min(map(str, missing))}, but the database {database!r} has no such "
            "job: enqueue it first, in the same database"
        )

    cycles.refuse(records, database)
    for record in records:
        if record.needs:
            record.state = JobState.BLOCKED


def after_insert(records: Iterable[JobRecord], database: str) -> None:
    """Store the dependencies of new jobs."""
    from ..models import JobDependency

    JobDependency.objects.using(database).bulk_create(
        JobDependency(job_id=record.pk, needs_id=needed)
        for record in records
        for needed in dict.fromkeys(record.needs)
    )


def after_commit(records: Iterable[JobRecord], database: str) -> None:
    """Release new jobs whose dependencies ended before their rows were visible to the ledger.

    The ledger may release them too.
    """
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
    """Release what waited for jobs that have ended: jobs that need them, and their batches.

    Call it inside the transaction that stored their end. A second call changes nothing.
    """
    from ..models import JobRecord

    batches: set[uuid.UUID] = set()
    ready: list[JobRecord] = []
    letters: list[DeadLetter] = []
    frontier = set(ended)
    while frontier:
        ended_too: set[uuid.UUID] = set()
        for chunk in in_chunks(frontier):
            rows = JobRecord.objects.using(database).filter(pk__in=chunk, batch__isnull=False)
            batches.update(rows.order_by().values_list("batch_id", flat=True).distinct())
            freed, ended_now = _release_dependents(chunk, database, letters)
            ready += freed
            ended_too |= ended_now

        frontier = ended_too
        if not frontier and batches:
            callbacks, frontier = finish_batches(batches, database)
            ready += callbacks
            batches = set()

    push_on_commit(ready, database)
    if letters:  # all at once: their notices are locked in one order
        dead_letters_saved.send(sender=None, letters=letters, database=database)


def finish_batches(
    batches: Collection[uuid.UUID], database: str
) -> tuple[list[JobRecord], set[uuid.UUID]]:
    """Finish the batches that are closed and have no open job.

    Their jobs are counted only then, so that the end of a job costs the same in a small batch and
    in a large one. Returns the callbacks that may run now, and the ids of those that never will.

    A batch whose row is locked is skipped: jobs are being added to it, and the ledger must not
    wait. ``heal`` finishes it later.
    """
    from ..models import Batch, JobRecord

    ready: list[JobRecord] = []
    ended: set[uuid.UUID] = set()
    skip = connections[database].features.has_select_for_update_skip_locked
    rows = Batch.objects.using(database).select_for_update(skip_locked=skip)
    for batch in rows.filter(pk__in=batches).order_by("pk"):
        if batch.state != BatchState.CLOSED or _has_open_job(batch, database):
            continue

        counts = count_jobs(batch.pk, database)
        row = Batch.objects.using(database).filter(pk=batch.pk)
        row.update(state=BatchState.DONE, finished_at=timezone.now(), **counts)

        clean = not counts["failed"] and not counts["canceled"]
        for callback, runs in ((batch.on_complete_id, True), (batch.on_success_id, clean)):
            if callback is None:
                continue
            if runs:
                ready += unblock(JobRecord.objects.using(database).filter(pk=callback), database)
            else:
                records = end([callback], JobState.CANCELED, NOT_CLEAN, database)
                ended |= {record.pk for record in records}
    return ready, ended


def settle_batches(batches: Collection[uuid.UUID], database: str) -> None:
    """Finish batches as far as possible, with all that follows. Call it inside a transaction."""
    ready, ended = finish_batches(batches, database)
    push_on_commit(ready, database)
    if ended:
        release(ended, database)


def unblock(rows: QuerySet[JobRecord], database: str) -> list[JobRecord]:
    """Set blocked jobs to waiting or delayed; return those that were blocked."""
    from ..models import JobRecord

    blocked = list(rows.filter(state=JobState.BLOCKED).order_by("pk").select_for_update())
    now = timezone.now()
    for record in blocked:
        is_delayed = record.run_at is not None and record.run_at > now
        record.state = JobState.DELAYED if is_delayed else JobState.WAITING

    unblocked: list[JobRecord] = []
    still_blocked = JobRecord.objects.using(database).filter(state=JobState.BLOCKED)
    for state in (JobState.WAITING, JobState.DELAYED):
        group = [record for record in blocked if record.state == state]
        if not group:
            continue
        same = still_blocked.filter(pk__in=[record.pk for record in group])
        if same.update(state=state, enqueued_at=None):
            unblocked += group
    return unblocked


def push_on_commit(records: Sequence[JobRecord], database: str) -> None:
    """Push jobs when the transaction commits."""
    if records:
        run_on_commit(database, push_records, list(records))


def heal(database: str, limit: int = CHUNK) -> None:
    """Release blocked jobs whose needs are settled, and finish closed batches without open jobs.

    That is what a crash or a locked batch left behind.
    """
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
        ended = needed.filter(needs__state__in=FINAL_STATES)
        release(set(ended.values_list("needs_id", flat=True)), database)
        settle_batches(list(closed.values_list("pk", flat=True)[:limit]), database)


def _release_dependents(
    ended: Collection[uuid.UUID], database: str, letters: list[DeadLetter]
) -> tuple[list[JobRecord], set[uuid.UUID]]:
    """Return the dependents that may run now, and the ids of those that were ended instead.

    Dead letters that this makes are added to ``letters``.
    """
    from ..models import JobDependency, JobRecord

    edges = JobDependency.objects.using(database)
    dependents = edges.filter(needs_id__in=ended, job__state=JobState.BLOCKED)
    waiting = set(dependents.values_list("job_id", flat=True))

    ready: list[JobRecord] = []
    ended_too: set[uuid.UUID] = set()
    for chunk in in_chunks(waiting):
        verdicts = verdicts_on(chunk, database)
        free = [job_id for job_id, verdict in verdicts.items() if verdict == JobState.WAITING]
        if free:
            ready += unblock(JobRecord.objects.using(database).filter(pk__in=free), database)

        for state in (JobState.CANCELED, JobState.FAILED):
            over = [job_id for job_id, verdict in verdicts.items() if verdict == state]
            records = end(over, state, NEEDED_FAILED, database)
            ended_too |= {record.pk for record in records}
            if state == JobState.FAILED:
                letters += _save_dead_letters(records, NEEDED_FAILED, database)
    return ready, ended_too


def verdicts_on(jobs: Collection[uuid.UUID], database: str) -> dict[uuid.UUID, JobState | None]:
    """Return the next state of blocked jobs, by the states of the jobs they need.

    WAITING to run, a final state to end, None to stay blocked.
    """
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


def end(
    job_ids: Collection[uuid.UUID], state: JobState, why: str, database: str
) -> list[JobRecord]:
    """Cancel or fail blocked jobs that never ran; return those that were blocked.

    Call it inside a transaction: its commit sends the signals.
    """
    from ..models import JobRecord

    rows = JobRecord.objects.using(database).filter(pk__in=job_ids, state=JobState.BLOCKED)
    needed = ("name", "queue", "organization_id", "attempts")
    blocked = list(rows.only(*needed).order_by("pk").select_for_update()) if job_ids else []
    now = timezone.now()
    if not blocked or not rows.update(state=state, finished_at=now, error=why):
        return []

    event = EventName.FAILED if state == JobState.FAILED else EventName.CANCELED
    run_on_commit(database, announce, blocked, event, now)
    return blocked


def _save_dead_letters(records: Sequence[JobRecord], why: str, database: str) -> list[DeadLetter]:
    """Make the dead letters and audit entries of jobs that failed without having run."""
    from ..models.dead_letter import dead_letter_of

    now = timezone.now()
    letters = []
    for record in records:
        dead_letter, entry = dead_letter_of(
            record,
            reason=FailureReason.NOT_RETRYABLE,
            error_class=NEEDED_JOB_FAILED,
            message=why,
            attempts=0,
            failed_at=now,
        )
        dead_letter.save(using=database)
        entry.save(using=database)
        letters.append(dead_letter)
        run_on_commit(
            database, partial(signals.send, signals.dead_letter_created, dead_letter=dead_letter)
        )
    return letters


def _has_open_job(batch: Batch, database: str) -> bool:
    """Return whether a batch has an open job, by one entry of the index on batch and state.

    A range with an order makes PostgreSQL use that index. For a state that is frequent it would
    otherwise scan the table, which begins with the jobs that have ended.
    """
    from ..models import JobRecord

    in_batch = JobRecord.objects.using(database).filter(batch=batch)
    rows = in_batch.order_by("state").values_list("state")
    return any(
        rows.filter(state__gte=state, state__lte=state)[:1]
        for state in sorted(OPEN_STATES, reverse=True)
    )


def count_jobs(batch_id: uuid.UUID, database: str) -> dict[str, int]:
    """Return the numbers of jobs of a batch: total, and by final state."""
    from ..models import JobRecord

    rows = JobRecord.objects.using(database).filter(batch_id=batch_id).order_by()
    by_state = dict(rows.values_list("state").annotate(Count("pk")))
    final = {state.value: by_state.get(state, 0) for state in FINAL_STATES}
    return {"total": sum(by_state.values()), **final}
