"""Ticks: the calendar pass. Due schedules become jobs, and are re-armed, in one transaction.

A tick's job id is made from (schedule, due time), and the schedule moves on in the same transaction as the job's
INSERT: however many schedulers run, crash or are killed, each tick is one job.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from django.db import connections, transaction
from django.db.models import Min

from . import cron, ids
from .enqueue import JobOptions, build
from .errors import WellosJobsError
from .inserts import insert_many, update_many
from .models import JobRecord, Schedule
from .queues import push_records
from .states import OPEN_STATES, CatchUp, Overlap

logger = logging.getLogger("wellos_jobs")

CHUNK = 500
"""How many schedules one transaction takes."""

LATE = timedelta(seconds=60)
"""A run that comes later than this counts as missed."""

MOVED = ["next_run_at", "last_run_at", "last_job", "missed", "missed_at", "broken"]


@dataclass
class Pass:
    """What one transaction of the calendar did."""

    schedules: list[Schedule] = field(default_factory=list)
    jobs: list[JobRecord] = field(default_factory=list)


def next_due(database: str) -> datetime | None:
    """Return when the earliest schedule is due; one query on an index."""
    due: datetime | None = Schedule.objects.using(database).aggregate(due=Min("next_run_at"))["due"]
    return due


def tick(database: str, now: datetime) -> int:
    """Turn every schedule that is due at ``now`` into jobs; return how many jobs were made."""
    made = 0
    while True:
        done = _one_pass(database, now)
        made += len(done.jobs)
        if len(done.schedules) < CHUNK:
            return made


def _one_pass(database: str, now: datetime) -> Pass:
    with transaction.atomic(using=database):
        due = _due(database, now)
        if not due:
            return Pass()
        running = _running(database, due)
        done = Pass(due)
        for schedule in due:
            done.jobs += _advance(schedule, now, overlaps=schedule.last_job_id in running)
        known = set(_known(database, done.jobs))
        done.jobs = [job for job in done.jobs if job.pk not in known]
        insert_many(done.jobs, database)
        update_many(due, MOVED, database)
        if done.jobs:
            transaction.on_commit(partial(push_records, done.jobs), using=database, robust=True)
    return done


def _due(database: str, now: datetime) -> list[Schedule]:
    skip = connections[database].features.has_select_for_update_skip_locked
    rows = Schedule.objects.using(database).select_for_update(skip_locked=skip)
    return list(rows.filter(next_run_at__lte=now).order_by("next_run_at", "pk")[:CHUNK])


def _running(database: str, due: Iterable[Schedule]) -> set[object]:
    wanted = [row.last_job_id for row in due if row.overlap == Overlap.SKIP and row.last_job_id]
    if not wanted:
        return set()
    rows = JobRecord.objects.using(database).filter(pk__in=wanted, state__in=OPEN_STATES)
    return set(rows.values_list("pk", flat=True))


def _known(database: str, jobs: Sequence[JobRecord]) -> Iterable[object]:
    """A tick may have been made already: by a scheduler whose commit was reported as failed, or before a restore."""
    return JobRecord.objects.using(database).filter(pk__in=[job.pk for job in jobs]).values_list("pk", flat=True)


def _advance(schedule: Schedule, now: datetime, *, overlaps: bool) -> list[JobRecord]:
    """Set a schedule to its next run and return the jobs of this one. A schedule that cannot run is put aside."""
    try:
        missed, runs = _runs(schedule, now)
        if overlaps:
            missed, runs = missed + len(runs), []
        jobs = [_job(schedule, due) for due in runs]
        schedule.next_run_at = schedule.first_run_after(now)
    except (WellosJobsError, ValueError, TypeError) as error:
        logger.error("schedule %r cannot run and is put aside: %s", schedule.name, error)
        schedule.broken, schedule.next_run_at = f"{type(error).__name__}: {error}", None
        return []
    if missed:
        schedule.missed += missed
        schedule.missed_at = now
        logger.warning("schedule %r: %d runs missed or skipped", schedule.name, missed)
    if jobs:
        schedule.last_run_at = runs[-1]
        schedule.last_job_id = jobs[-1].pk
    return jobs


def _runs(schedule: Schedule, now: datetime) -> tuple[int, list[datetime]]:
    """Return how many due times are passed over and which ones run, by the schedule's catch-up policy."""
    due = [schedule.next_run_at or now]
    most = max(schedule.catch_up_limit, 1)
    later = cron.iterate(schedule.cron, schedule.zone, due[0], anchor=schedule.starts_at)
    for run in later:
        if run > now or (schedule.ends_at is not None and run > schedule.ends_at):
            break
        due.append(run)
        if len(due) > 100_000:
            raise WellosJobsError(f"more than 100,000 runs were missed since {due[0]:%Y-%m-%d %H:%M}")
    if schedule.catch_up == CatchUp.ALL:
        runs = due[-most:]
    elif schedule.catch_up == CatchUp.ONCE:
        runs = due[-1:]
    else:
        runs = [run for run in islice(reversed(due), 1) if now - run <= LATE]
    return len(due) - len(runs), runs


def _job(schedule: Schedule, due: datetime) -> JobRecord:
    options = JobOptions(
        organization=schedule.organization_id or None,
        run_at=due,
        database=str(schedule._state.db),
    )
    job = build(schedule.job_name, schedule.data, options)
    job.id = ids.tick_id(schedule.key, due)
    job.schedule_id = schedule.pk
    return job
