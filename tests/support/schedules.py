"""Schedules for tests: making them, setting their clock, and reading what they made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from wellos_jobs.models import JobRecord, Schedule


def at(text: str) -> datetime:
    """Return a moment in UTC: ``at("2026-03-08 07:00")``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def make(
    name: str = "test", cron: Any = "* * * * *", job: str = "test-noop", **fields: Any
) -> Schedule:
    """Store a schedule."""
    return Schedule.objects.create(name=name, cron=cron, job_name=job, **fields)


def make_due(
    since: datetime, name: str = "test", cron: Any = "* * * * *", **fields: Any
) -> Schedule:
    """Store a schedule that has been due since a moment."""
    return make(name, cron, next_run_at=since, **fields)


def due_times(schedule: Schedule | str, database: str = "default") -> list[datetime]:
    """Return the due times of the jobs that a schedule made, in order."""
    name = schedule if isinstance(schedule, str) else schedule.name
    jobs = JobRecord.objects.using(database).filter(schedule__name=name)
    return sorted(due for due in jobs.values_list("run_at", flat=True) if due is not None)


def every(seconds: float, since: datetime, count: int) -> list[datetime]:
    """Return ``count`` moments, the first of them ``since``."""
    return [since + number * timedelta(seconds=seconds) for number in range(count)]


@contextmanager
def rolled_back(using: str = "default") -> Iterator[None]:
    """A transaction that does not commit."""
    with transaction.atomic(using=using):
        yield
        transaction.set_rollback(True, using=using)


class MovedClock:
    """A clock that says what it is told, in Unix seconds; ``tick`` says how much later each look at
    it is."""

    def __init__(self, moment: datetime, tick: float = 0.0) -> None:
        self.moment = moment
        self.tick = timedelta(seconds=tick)

    def __call__(self) -> float:
        self.moment += self.tick
        return self.moment.timestamp()

    def go(self, **duration: float) -> datetime:
        """Let time pass: ``go(minutes=7)``."""
        self.moment += timedelta(**duration)
        return self.moment
