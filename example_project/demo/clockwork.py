"""The last part of the demo: the scheduler runs a schedule every second."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

from example_project.timesheets.recurring import sync_time_entries
from wellos_jobs import JobState
from wellos_jobs.cron import Every
from wellos_jobs.definitions import ids
from wellos_jobs.models import JobRecord, Schedule
from wellos_jobs.schedules import remove_schedule

from .checks import Result

NAME = "every-second"
WHAT = "a schedule ran every second"
RUNS = 3
LOOK_EVERY = 0.1


def play(check_alive: Callable[[], None], deadline: float) -> Result:
    """Schedule a job for every second, wait for three runs, then remove the schedule."""
    try:
        _wait(Schedule.objects.filter(name=sync_time_entries.name).exists, check_alive, deadline)
        remove_schedule(NAME)
        schedule = Schedule.objects.create(
            name=NAME, job_name=sync_time_entries.name, cron=str(Every(1))
        )
        jobs = JobRecord.objects.filter(schedule=schedule.pk).order_by("created_at")
        done = jobs.filter(state=JobState.COMPLETED)
        _wait(lambda: done.count() >= RUNS, check_alive, deadline)
        return _judge(list(done[:RUNS]))
    except TimeoutError:
        return Result(WHAT, False, "not in time; see the scheduler's log")
    finally:
        remove_schedule(NAME)


def _wait(until: Callable[[], bool], check_alive: Callable[[], None], deadline: float) -> None:
    while not until():
        check_alive()
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(LOOK_EVERY)


def _judge(jobs: list[JobRecord]) -> Result:
    due = [moment for job in jobs if (moment := ids.moment_of(job.pk)) is not None]
    started = [job.started_at or job.created_at for job in jobs]
    late = max((start - moment).total_seconds() for start, moment in zip(started, due, strict=True))
    steps = {after - before for before, after in pairwise(due)}
    shown = ", ".join(f"{moment:%H:%M:%S}" for moment in due)
    return Result(
        WHAT, steps == {timedelta(seconds=1)}, f"due at {shown}; started at most {late:.2f} s later"
    )
