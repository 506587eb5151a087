"""Ticks: the calendar pass. Due schedules become jobs, and are moved on, in one transaction.

A tick's job id is made from (schedule, due time), and the schedule moves on in the same transaction
as the job's
INSERT: however many schedulers run, crash or are killed, each tick is one job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    connections,
    transaction,
)
from django.db.models import QuerySet

from .. import conf, payload
from ..cron.timing import Timing
from ..database import update_many
from ..definitions import ids, registry
from ..enqueueing.enqueue import JobOptions, build
from ..enqueueing.insertion import insert
from ..models import JobRecord, Schedule
from ..states import OPEN_STATES, CatchUp, Overlap

logger = logging.getLogger("wellos_jobs")

CHUNK = 500
"""How many schedules one transaction takes."""

_A_ROW = (DataError, IntegrityError)
"""What a database says when it is a row that it refuses: everything else, as a missing column, is its own trouble."""

MOVED = ["next_run_at", "planned_for", "last_run_at", "last_job", "missed", "missed_at", "broken"]


@dataclass(frozen=True, slots=True)
class Done:
    """What one transaction did: how many schedules it looked at, how many jobs it made."""

    taken: int = 0
    made: int = 0


def next_due(database: str) -> datetime | None:
    """Return when the earliest schedule is due; one query that reads one entry of an index."""
    rows = _sound(database).filter(next_run_at__isnull=False).order_by("next_run_at")
    return rows.values_list("next_run_at", flat=True).first()


def tick(database: str, now: datetime, keep: Callable[[], None] = lambda: None) -> int:
    """Turn every schedule that is due at ``now`` into jobs; return how many jobs were made.

    ``keep`` is called before each chunk: it may stop the pass by raising.
    """
    made, taken = 0, CHUNK
    while taken >= CHUNK:
        keep()
        done = _chunk(database, now, _sound(database))
        made, taken = made + done.made, done.taken
    return made


def retry(database: str, now: datetime) -> int:
    """Try again what was put aside: its cause may be mended. Return how many jobs were made."""
    return _chunk(database, now, _enabled(database).exclude(broken="")).made


def _enabled(database: str) -> QuerySet[Schedule]:
    return Schedule.objects.using(database).filter(enabled=True)


def _sound(database: str) -> QuerySet[Schedule]:
    return _enabled(database).filter(broken="")


# --- one transaction ------------------------------------------------------------------------------


def _chunk(database: str, now: datetime, rows: QuerySet[Schedule]) -> Done:
    rows = rows.filter(next_run_at__lte=now).order_by("next_run_at", "pk")
    try:
        return _pass(database, now, rows)
    except _A_ROW as error:
        logger.warning(
            "schedules of %s: one of a chunk is refused, taking them one by one: %s",
            database,
            error,
        )
        return _one_by_one(database, now, rows)


def _one_by_one(database: str, now: datetime, rows: QuerySet[Schedule]) -> Done:
    """Do a chunk with a transaction for each schedule, and put aside those whose job the database refuses."""
    made, keys = 0, list(rows.values_list("pk", flat=True)[:CHUNK])
    for key in keys:
        try:
            made += _pass(database, now, rows.filter(pk=key)).made
        except _A_ROW as error:
            logger.error("schedule %s cannot run and is put aside: %s", key, error)
            Schedule.objects.using(database).filter(pk=key).update(broken=_told(error))
    return Done(len(keys), made)


def _pass(database: str, now: datetime, rows: QuerySet[Schedule]) -> Done:
    with transaction.atomic(using=database):
        skip = connections[database].features.has_select_for_update_skip_locked
        due = list(rows.select_for_update(skip_locked=skip)[:CHUNK])
        if not due:
            return Done()
        busy = _busy(database, due)
        before = {row.pk: row.missed for row in due}
        ticks = [
            (row, job) for row in due for job in _advance(row, now, busy=row.last_job_id in busy)
        ]
        known = _known(database, [job for _, job in ticks])
        insert([job for _, job in ticks if job.pk not in known])
        for (
            schedule,
            job,
        ) in ticks:  # only now: under ``Unique`` the id is that of the job that counts
            schedule.last_job_id = job.pk
        update_many(due, MOVED, database)
    _tell_missed({row.name: missed for row in due if (missed := row.missed - before[row.pk])})
    return Done(len(due), len(ticks))


def _tell_missed(missed: dict[str, int]) -> None:
    if missed:
        names, more = list(missed)[:5], len(missed) - 5
        told = ", ".join(f"{name} {missed[name]}" for name in names) + (
            f" and {more} more schedules" if more > 0 else ""
        )
        logger.warning("schedules: %d runs missed or skipped: %s", sum(missed.values()), told)


def _busy(database: str, due: Iterable[Schedule]) -> set[object]:
    wanted = [row.last_job_id for row in due if row.overlap == Overlap.SKIP and row.last_job_id]
    if not wanted:
        return set()
    rows = JobRecord.objects.using(database).filter(pk__in=wanted, state__in=OPEN_STATES)
    return set(rows.values_list("pk", flat=True))


def _known(database: str, jobs: Sequence[JobRecord]) -> set[object]:
    """Ticks that were made already: by a scheduler whose commit was reported as failed, or before a restore."""
    if not jobs:
        return set()
    rows = JobRecord.objects.using(database).filter(pk__in=[job.pk for job in jobs])
    return set(rows.values_list("pk", flat=True))


# --- one schedule ---------------------------------------------------------------------------------


def _advance(schedule: Schedule, now: datetime, *, busy: bool) -> list[JobRecord]:
    """Set a schedule to its next run and return the jobs of this one. A schedule that cannot run is put aside."""
    try:
        return _move(schedule, now, busy=busy)
    except (DatabaseError, InterfaceError):
        raise
    except Exception as error:  # a setting's hook or a stranger's row must not stop the others
        if schedule.broken != _told(error):
            logger.error("schedule %r cannot run and is put aside: %s", schedule.name, error)
        schedule.broken = _told(error)
        return []


def _move(schedule: Schedule, now: datetime, *, busy: bool) -> list[JobRecord]:
    timing, first = _timing(schedule), schedule.next_run_at or now
    if schedule.planned_for not in ("", timing.digest):
        # Not by ``save``: its organization has moved to another zone, or somebody wrote SQL. The
        # old time is void.
        schedule.next_run_at = next(iter(timing.after(now)), None)
        schedule.planned_for, schedule.broken = timing.digest, ""
        return []
    due = timing.due(first, now, CatchUp(schedule.catch_up), schedule.catch_up_limit)
    runs = due.runs
    if schedule.overlap == Overlap.SKIP:
        runs = () if busy else runs[-1:]
    jobs = [_job(schedule, run) for run in runs]
    schedule.next_run_at, schedule.planned_for, schedule.broken = due.next_run, timing.digest, ""
    if jobs:
        schedule.last_run_at = runs[-1]
    if missed := due.passed_over + len(due.runs) - len(runs):
        schedule.missed += missed
        schedule.missed_at = now
    return jobs


def _timing(schedule: Schedule) -> Timing:
    if (
        schedule.time_zone
        or not schedule.organization_id
        or conf.current().organization_resolver is None
    ):
        return schedule.timing
    try:
        with transaction.atomic(
            using=schedule._state.db
        ):  # the project's hook may break the transaction
            return schedule.timing
    except Exception as error:
        raise ValueError(
            f"ORGANIZATION_RESOLVER failed for {schedule.organization_id!r}: {_told(error)}"
        ) from error


def _job(schedule: Schedule, due: datetime) -> JobRecord:
    definition = registry.get(
        schedule.job_name
    )  # one that nobody declares is no job to enqueue each time
    options = JobOptions(
        organization=schedule.organization_id or None,
        run_at=due,
        database=schedule._state.db,
    )
    job = build(schedule.job_name, payload.decode(schedule.data), options, definition)
    job.id = ids.tick_id(schedule.key, due)
    job.schedule_id = schedule.pk
    return job


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
