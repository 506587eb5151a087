"""Run what is enqueued: on call (``drain``), or as soon as it is enqueued (``eager``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import QuerySet
from django.utils import timezone

from .. import JobHandle
from ..database import default_database
from ..enqueueing import dependencies
from ..models import JobRecord
from ..schedules import declared, ticks
from ..states import JobState
from . import commits
from .captured import CapturedJobs, capturing
from .clock import MovedClock, moment, moved_clock, moving_clock
from .engine import Choice, Engine, Run, engine_in_force
from .errors import JobFailed, NeverDone

MOST_RUNS = 1_000
"""Runs of one drain: more are taken for jobs that never end."""

_STOPS_THE_TEST = (KeyboardInterrupt, SystemExit)


def drain(
    queue: str | None = None,
    until: datetime | timedelta | float | None = None,
    *,
    schedules: bool = False,
    raise_errors: bool = True,
    most: int = MOST_RUNS,
) -> list[JobHandle]:
    """Run the jobs that are due, and what they enqueue, until none is left; return those that ran.

    Args:
        queue: run this queue's jobs only.
        until: also run what becomes due up to then (an aware datetime, or seconds or a timedelta
            from now), such as delayed jobs and retries. The clock is moved to each moment at which
            something is due. It is moved back afterwards, except within ``moved_clock``.
        schedules: also make the jobs of schedules that become due, of declared ones too.
        raise_errors: raise the first error of a job, once its row tells of it; False: let errors
            end as in production, in a retry or a dead letter.
        most: the number of runs after which this gives up.

    Raises:
        NeverDone: there were more runs than ``most``.
    """
    with engine_in_force() as engine:
        work = _Drain(engine, _of_queue(queue), schedules, raise_errors, most)
        if until is None:
            work.run_due()
            return work.done

        running = moving_clock()
        with moved_clock() if running is None else nullcontext(running) as clock:
            work.run_until(moment(until), clock)
        return work.done


@contextmanager
def eager(*, raise_errors: bool = True) -> Iterator[CapturedJobs]:
    """Run each job when it is enqueued: when the transaction around it commits, or would have.

    In a ``TestCase``, that is when the code under test leaves its outermost ``atomic`` block. A job
    that is enqueued by another one runs after that. Delayed jobs and retries stay, for ``drain``.
    The errors of jobs are raised there unless ``raise_errors`` is False. Gives the captured jobs.
    """
    with engine_in_force() as engine, capturing(engine) as jobs:
        work = _Drain(engine, jobs.among, False, raise_errors, MOST_RUNS)
        before, engine.after_push = engine.after_push, work.run_pushed
        try:
            with commits.committing_at_once(engine.databases):
                yield jobs
        finally:
            engine.after_push = before


def _of_queue(queue: str | None) -> Choice:
    def choose(rows: QuerySet[JobRecord]) -> QuerySet[JobRecord]:
        return rows if queue is None else rows.filter(queue=queue)

    return choose


class _Drain:
    """One call of ``drain``."""

    def __init__(
        self, engine: Engine, wanted: Choice, schedules: bool, raise_errors: bool, most: int
    ) -> None:
        self.engine = engine
        self.wanted = wanted
        self.schedules = schedules
        self.raise_errors = raise_errors
        self.most = most
        self.done: list[JobHandle] = []
        self._is_at_work = False
        if schedules and default_database() in engine.databases:
            declared.synchronize()

    def run_due(self) -> None:
        """Run what is due now, and what that enqueues."""
        self._tick()
        _release(self.engine.databases)
        while (row := self._next()) is not None:
            if len(self.done) >= self.most:
                raise NeverDone(
                    f"{self.most} jobs were run and there are still more, such as "
                    f"{row.name!r}: does a job enqueue itself, or snooze without a pause?"
                )
            run = self.engine.run(row)
            self.done.append(run.handle)
            self._raise_error_of(run)

    def run_until(self, end: datetime, clock: MovedClock) -> None:
        """Move the clock to each moment at which something is due, up to the end."""
        self.run_due()
        while (following := self._next_moment()) is not None and following <= end:
            clock.move_to(max(following, clock.now))
            self.run_due()
        clock.move_to(max(end, clock.now))

    def run_pushed(self) -> None:
        """Run what was just pushed, unless a job pushed it: then it comes after that."""
        if self.engine.is_busy or self._is_at_work:
            return
        self.done.clear()
        self._is_at_work = True
        try:
            self.run_due()
        except DatabaseError as error:
            raise JobFailed(f"A job has failed: {type(error).__name__}: {error}") from error
        finally:
            self._is_at_work = False

    def _next(self) -> JobRecord | None:
        commits.flush(self.engine.databases)
        return self.engine.next_due(self.wanted)

    def _tick(self) -> None:
        if self.schedules:
            for database in self.engine.databases:
                ticks.tick(database, timezone.now())

    def _next_moment(self) -> datetime | None:
        moments = [self.engine.next_moment(self.wanted)]
        if self.schedules:
            moments += [ticks.next_due(database) for database in self.engine.databases]
        return min((moment for moment in moments if moment is not None), default=None)

    def _raise_error_of(self, run: Run) -> None:
        error = run.error
        if error is None:
            return
        if isinstance(error, _STOPS_THE_TEST) or (self.raise_errors and run.is_unwanted):
            error.add_note(f"Raised by job {run.handle}, whose run counts as {run.outcome.kind}.")
            raise error


def _release(databases: Iterable[str]) -> None:
    """Free jobs whose needs have ended before the test began, as in ``setUpTestData``."""
    for database in databases:
        if JobRecord.objects.using(database).filter(state=JobState.BLOCKED).exists():
            dependencies.heal(database)
