"""Ticks: due schedules become jobs, and get their next run, in one transaction.

A tick's job id is derived from (schedule, due time), and the schedule advances in the same
transaction as the job's INSERT: each tick is one job, however many schedulers run or crash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    connections,
    transaction,
)
from django.db.models import Q, QuerySet

from .. import conf
from ..cron.timing import Timing
from ..definitions import ids, registry
from ..enqueueing.enqueue import JobOptions, build
from ..enqueueing.insertion import insert
from ..models import JobRecord, Schedule
from ..sql import update_rows
from ..states import OPEN_STATES, CatchUp, Overlap

logger = logging.getLogger("wellos_jobs")

CHUNK = 500
"""Schedules per transaction."""

AHEAD = timedelta(seconds=60)
"""A plan made later than this from now was made by a clock that was ahead."""

_ROW_ERRORS = (DataError, IntegrityError)
"""Errors caused by one row. Others, such as a missing column, concern the whole database."""

ADVANCED = [
    "next_run_at",
    "planned_for",
    "planned_at",
    "last_run_at",
    "last_job",
    "missed",
    "missed_at",
    "broken",
]


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """How many schedules one transaction processed, and how many jobs it made."""

    schedules: int = 0
    jobs: int = 0


def next_due(database: str) -> datetime | None:
    """Return when the earliest schedule is due; one query that reads one index entry."""
    rows = _runnable(database).filter(next_run_at__isnull=False).order_by("next_run_at")
    return rows.values_list("next_run_at", flat=True).first()


def tick(database: str, now: datetime, renew: Callable[[], None] = lambda: None) -> int:
    """Turn every schedule that is due at ``now`` into jobs; return how many jobs were made.

    ``renew`` is called before each chunk: it may stop the pass by raising.
    """
    jobs = 0
    while True:
        renew()
        result = _process(database, now, _runnable(database))
        jobs += result.jobs
        if result.schedules < CHUNK:
            return jobs


def retry_broken(database: str, now: datetime) -> int:
    """Retry the schedules that could not run. Return how many jobs were made."""
    return _process(database, now, _enabled(database).exclude(broken="")).jobs


def replan(database: str, now: datetime, latest: datetime) -> int:
    """Plan the schedules anew whose plan is void; return how many.

    - disabled by SQL: without a plan, like one that was disabled by ``save``
    - enabled or inserted by SQL: from now on, like one that was enabled by ``save``
    - planned by a clock that was ahead of ``latest``, the latest of all clocks: from now on. Runs
      that it has made already are not made again, because a run has the id of its due time.
    """
    ahead = Q(planned_at__gt=latest + AHEAD)
    disabled = Q(enabled=False) & ~Q(planned_for="")
    enabled = Q(enabled=True, planned_for="", next_run_at=None, broken="")
    rows = Schedule.objects.using(database).filter(ahead | disabled | enabled).order_by("pk")
    if not rows.exists():
        return 0

    with transaction.atomic(using=database):
        found = list(_chosen(database, rows))
        for row in found:
            if row.planned_at is not None and row.planned_at > latest + AHEAD:
                _forget_future(row, latest)
                _replan(row, latest)
            else:
                _replan(row, now)
        update_rows(found, ADVANCED, database)
    return len(found)


def _forget_future(schedule: Schedule, now: datetime) -> None:
    """Forget runs in the future: the last job, which is delayed until then, would count as open."""
    logger.warning(
        "schedule %r was planned by a clock that was ahead (at %s): planning it again",
        schedule.name,
        schedule.planned_at,
    )
    if schedule.last_run_at is not None and schedule.last_run_at > now:
        schedule.last_run_at = schedule.last_job_id = None
    if schedule.missed_at is not None and schedule.missed_at > now:
        schedule.missed_at = now


def _replan(schedule: Schedule, now: datetime) -> None:
    schedule.planned_at = now
    if not schedule.enabled:
        schedule.next_run_at, schedule.planned_for = None, ""
        return

    try:
        timing = _timing(schedule)
        schedule.next_run_at = next(iter(timing.after(now)), None)
        schedule.planned_for = timing.digest
    except (DatabaseError, InterfaceError):
        raise
    except Exception as error:
        logger.error("schedule %r cannot run and is set aside: %s", schedule.name, error)
        schedule.next_run_at, schedule.broken = now, _describe(error)


def _enabled(database: str) -> QuerySet[Schedule]:
    return Schedule.objects.using(database).filter(enabled=True)


def _runnable(database: str) -> QuerySet[Schedule]:
    return _enabled(database).filter(broken="")


# --- one transaction ------------------------------------------------------------------------------


def _process(database: str, now: datetime, rows: QuerySet[Schedule]) -> ChunkResult:
    """Process a chunk of the due schedules in one transaction; one by one if a row is rejected."""
    rows = rows.filter(next_run_at__lte=now).order_by("next_run_at", "pk")
    try:
        return _process_chunk(database, now, rows)
    except _ROW_ERRORS as error:
        logger.warning(
            "schedules of %s: the database rejects one of a chunk, processing them one by one: %s",
            database,
            error,
        )
        return _process_singly(database, now, rows)


def _process_singly(database: str, now: datetime, rows: QuerySet[Schedule]) -> ChunkResult:
    """Process a chunk in a transaction per schedule; set aside those that the database rejects."""
    jobs, keys = 0, list(rows.values_list("pk", flat=True)[:CHUNK])
    for key in keys:
        try:
            jobs += _process_chunk(database, now, rows.filter(pk=key)).jobs
        except _ROW_ERRORS as error:
            logger.error("schedule %s cannot run and is set aside: %s", key, error)
            Schedule.objects.using(database).filter(pk=key).update(broken=_describe(error))
    return ChunkResult(len(keys), jobs)


def _process_chunk(database: str, now: datetime, rows: QuerySet[Schedule]) -> ChunkResult:
    chosen = _chosen(database, rows)
    with transaction.atomic(using=database):
        due = list(chosen)
        if not due:
            return ChunkResult()

        missed_before = {row.pk: row.missed for row in due}
        ticks = _advance_all(due, now, _open_jobs(database, due))

        existing = _existing(database, [job for _, job in ticks])
        insert([job for _, job in ticks if job.pk not in existing])
        for schedule, job in ticks:  # after the insert: a duplicate under ``Unique`` gets its id
            schedule.last_job_id = job.pk
        update_rows(due, ADVANCED, database)

    _log_missed({row.name: row.missed - missed_before[row.pk] for row in due})
    return ChunkResult(len(due), len(ticks))


def _chosen(database: str, rows: QuerySet[Schedule]) -> QuerySet[Schedule]:
    """Return a chunk of the due schedules, to be locked in an order that all passes keep.

    A pass skips the rows that another one has locked. Where the database cannot (MariaDB before
    10.6) it waits for them, and two passes that lock in the order of ``next_run_at``, which both
    change, would wait for each other: there the order is that of the primary keys.
    """
    features = connections[database].features
    if features.has_select_for_update_skip_locked or not features.has_select_for_update:
        skip = features.has_select_for_update_skip_locked
        return rows.select_for_update(skip_locked=skip)[:CHUNK]

    keys = list(rows.values_list("pk", flat=True)[:CHUNK])
    return rows.filter(pk__in=keys).order_by("pk").select_for_update()


def _advance_all(
    due: Iterable[Schedule], now: datetime, open_jobs: set[object]
) -> list[tuple[Schedule, JobRecord]]:
    return [
        (schedule, job)
        for schedule in due
        for job in _advance(schedule, now, busy=schedule.last_job_id in open_jobs)
    ]


def _log_missed(missed: dict[str, int]) -> None:
    missed = {name: count for name, count in missed.items() if count}
    if not missed:
        return

    text = ", ".join(f"{name} {missed[name]}" for name in list(missed)[:5])
    if len(missed) > 5:
        text += f" and {len(missed) - 5} more schedules"
    logger.warning("schedules: %d runs missed or skipped: %s", sum(missed.values()), text)


def _open_jobs(database: str, due: Iterable[Schedule]) -> set[object]:
    """Return the last jobs that are still open, of schedules that must not overlap."""
    wanted = [row.last_job_id for row in due if row.overlap == Overlap.SKIP and row.last_job_id]
    if not wanted:
        return set()

    rows = JobRecord.objects.using(database).filter(pk__in=wanted, state__in=OPEN_STATES)
    return set(rows.values_list("pk", flat=True))


def _existing(database: str, jobs: Sequence[JobRecord]) -> set[object]:
    """Return the ids already inserted: by a commit reported as failed, or before a restore."""
    if not jobs:
        return set()

    rows = JobRecord.objects.using(database).filter(pk__in=[job.pk for job in jobs])
    return set(rows.values_list("pk", flat=True))


# --- one schedule ---------------------------------------------------------------------------------


def _advance(schedule: Schedule, now: datetime, *, busy: bool) -> list[JobRecord]:
    """Set a schedule's next run and return the jobs of this one. If that fails, put it aside."""
    try:
        return _due_jobs(schedule, now, busy=busy)
    except (DatabaseError, InterfaceError):
        raise
    except Exception as error:  # a setting's hook or a hand-written row must not stop the others
        if schedule.broken != _describe(error):
            logger.error("schedule %r cannot run and is set aside: %s", schedule.name, error)
        schedule.broken = _describe(error)
        return []


def _due_jobs(schedule: Schedule, now: datetime, *, busy: bool) -> list[JobRecord]:
    schedule.check_interval()  # the row may have been written by SQL, or before the setting
    timing = _timing(schedule)
    if schedule.planned_for not in ("", timing.digest):
        # Changed without ``save``: the organization's zone, or by SQL. The old time is void.
        schedule.next_run_at = next(iter(timing.after(now)), None)
        schedule.planned_for, schedule.planned_at, schedule.broken = timing.digest, now, ""
        return []

    first = schedule.next_run_at or now
    due = timing.due(first, now, CatchUp(schedule.catch_up), schedule.catch_up_limit)
    runs = due.runs
    if schedule.overlap == Overlap.SKIP:
        runs = () if busy else runs[-1:]
    jobs = [_job(schedule, run) for run in runs]

    schedule.next_run_at, schedule.planned_for, schedule.broken = due.next_run, timing.digest, ""
    schedule.planned_at = now
    if jobs:
        schedule.last_run_at = runs[-1]
    if missed := due.skipped + len(due.runs) - len(runs):
        schedule.missed += missed
        schedule.missed_at = now
    return jobs


def _timing(schedule: Schedule) -> Timing:
    uses_hook = schedule.organization_id and not schedule.time_zone
    if not uses_hook or conf.current().organization_resolver is None:
        return schedule.timing

    try:
        # a savepoint: the project's hook may break the transaction
        with transaction.atomic(using=schedule._state.db):
            return schedule.timing
    except Exception as error:
        raise ValueError(
            f"ORGANIZATION_RESOLVER failed for {schedule.organization_id!r}: {_describe(error)}"
        ) from error


def _job(schedule: Schedule, due: datetime) -> JobRecord:
    definition = registry.get(schedule.job_name)  # raises if the job is no longer declared
    options = JobOptions(
        organization=schedule.organization_id or None,
        run_at=due,
        database=schedule._state.db,
    )
    job = build(schedule.job_name, schedule.arguments(definition), options, definition)
    job.id = ids.tick_id(schedule.key, due)
    job.schedule_id = schedule.pk
    return job


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
