"""The jobs that code under test has enqueued, and what a test says about them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, overload

from django.db import DatabaseError
from django.db.models import QuerySet

from .. import Job, JobHandle, JobState, Priority, payload
from ..definitions.durations import in_seconds
from ..errors import PayloadError
from ..models import JobRecord
from . import commits
from .engine import Engine, engine_in_force

DELAY_TOLERANCE = 1.0
"""Seconds by which a delay or time may differ from what the test says."""

AnyJob = Job[..., Any] | str
"""A declared job, or the name of one."""


@dataclass(frozen=True, slots=True)
class EnqueuedJob:
    """A job that was enqueued. ``data`` holds its arguments, decrypted; ``delay`` is in seconds."""

    id: uuid.UUID
    name: str
    data: Mapping[str, Any]
    queue: str
    priority: Priority
    state: JobState
    organization: str
    delay: float | None
    run_at: datetime | None
    handle: JobHandle

    @classmethod
    def of(cls, record: JobRecord) -> EnqueuedJob:
        """Describe a row."""
        is_later = record.run_at is not None and record.run_at > record.created_at
        run_at = record.run_at if is_later else None
        return cls(
            id=record.pk,
            name=record.name,
            data=payload.decode(record.data),
            queue=record.queue,
            priority=Priority(record.priority),
            state=JobState(record.state),
            organization=record.organization_id,
            delay=(run_at - record.created_at).total_seconds() if run_at else None,
            run_at=run_at,
            handle=JobHandle(record.pk, record.queue, record._state.db or "default"),
        )

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.data.items())
        options = [f"queue {self.queue}"]
        if self.priority != Priority.NORMAL:
            options.append(f"priority {self.priority.name}")
        if self.delay is not None:
            options.append(f"in {self.delay:g} s")
        if self.organization:
            options.append(f"organization {self.organization}")
        return f"{self.name}({arguments}) [{', '.join(options)}; {self.state}]"


class CapturedJobs(Sequence[EnqueuedJob]):
    """The jobs enqueued in the block, oldest first, read from the rows each time.

    So what was rolled back is not among them, nor what was canceled or replaced since.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before = self._known = self._all()
        self._final: list[EnqueuedJob] | None = None

    def clear(self) -> None:
        """Forget the jobs that were enqueued so far; their rows stay."""
        self._known = self._all()

    def _all(self) -> set[uuid.UUID]:
        rows = [JobRecord.objects.using(alias) for alias in self._engine.databases]
        return {key for found in rows for key in found.values_list("pk", flat=True)}

    @property
    def enqueued(self) -> list[EnqueuedJob]:
        """These jobs as a list."""
        return list(self._read() if self._final is None else self._final)

    def of(self, job: AnyJob) -> list[EnqueuedJob]:
        """Return those of one job."""
        return [found for found in self.enqueued if found.name == _name(job)]

    def among(self, rows: QuerySet[JobRecord]) -> QuerySet[JobRecord]:
        """Narrow a query to jobs that were enqueued in the block."""
        return rows.exclude(pk__in=self._before) if self._before else rows

    def __len__(self) -> int:
        return len(self.enqueued)

    def __iter__(self) -> Iterator[EnqueuedJob]:
        return iter(self.enqueued)

    @overload
    def __getitem__(self, index: int) -> EnqueuedJob: ...
    @overload
    def __getitem__(self, index: slice) -> list[EnqueuedJob]: ...
    def __getitem__(self, index: int | slice) -> EnqueuedJob | list[EnqueuedJob]:
        return self.enqueued[index]

    def __repr__(self) -> str:
        return f"<CapturedJobs: {', '.join(map(str, self.enqueued)) or 'none'}>"

    def __bool__(self) -> bool:
        return bool(self.enqueued)

    # --- assertions -------------------------------------------------------------------------------

    def assert_enqueued(
        self,
        job: AnyJob,
        count: int | None = None,
        data: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: Priority | None = None,
        delay: float | timedelta | None = None,
        run_at: datetime | None = None,
        organization: str | None = None,
    ) -> list[EnqueuedJob]:
        """Fail unless such jobs were enqueued, at least one or exactly ``count``; return them.

        Only what is given is compared. Of ``data``, give the arguments that matter. ``delay`` (in
        seconds or a timedelta) and ``run_at`` may differ by a second.
        """
        __tracebackhide__ = True
        wanted = _Wanted(_name(job), data, queue, priority, _seconds(delay), run_at, organization)
        jobs = self.enqueued
        found = [one for one in jobs if not wanted.differences(one)]

        if len(found) == count or (count is None and found):
            return found
        raise AssertionError(_failure(wanted, count, len(found), jobs))

    def assert_not_enqueued(self, job: AnyJob, data: Mapping[str, Any] | None = None) -> None:
        """Fail if such a job was enqueued."""
        __tracebackhide__ = True
        self.assert_enqueued(job, 0, data)

    def assert_nothing_enqueued(self) -> None:
        """Fail if any job was enqueued."""
        __tracebackhide__ = True
        if jobs := self.enqueued:
            raise AssertionError(f"Nothing should have been enqueued. {_listed(jobs)}")

    # --- reading ----------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Note what the block has enqueued: later jobs are not among them."""
        self._final = self._read()

    def _read(self) -> list[EnqueuedJob]:
        commits.flush(self._engine.databases)
        rows = [
            row
            for alias in self._engine.databases
            for row in JobRecord.objects.using(alias).exclude(state=JobState.CANCELED)
            if row.pk not in self._known
        ]
        rows.sort(key=lambda row: (row.created_at, row.pk))
        return [EnqueuedJob.of(row) for row in rows]


@contextmanager
def capturing(engine: Engine) -> Iterator[CapturedJobs]:
    """Capture what is enqueued in the block."""
    jobs = CapturedJobs(engine)
    try:
        yield jobs
    finally:
        with suppress(DatabaseError):  # the transaction is broken, so the test has failed already
            jobs.freeze()


@contextmanager
def captured_jobs() -> Iterator[CapturedJobs]:
    """Capture the jobs that are enqueued in the block: they get their rows, and none is run.

    Nothing reaches Redis meanwhile. Run them with ``drain``.
    """
    with engine_in_force() as engine, capturing(engine) as jobs:
        yield jobs


# --- matching -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a test expects of a job; None: anything."""

    name: str
    data: Mapping[str, Any] | None
    queue: str | None
    priority: Priority | None
    delay: float | None
    run_at: datetime | None
    organization: str | None

    def differences(self, job: EnqueuedJob) -> list[str]:
        """Return what is different, each as a phrase."""
        if job.name != self.name:
            return [f"the job is {job.name}"]
        return [*self._other_data(job), *self._other_options(job), *self._other_time(job)]

    def _other_data(self, job: EnqueuedJob) -> Iterator[str]:
        for name, value in (self.data or {}).items():
            if name not in job.data:
                yield f"it has no {name}"
            elif job.data[name] != _as_stored(value):
                yield f"{name} is {job.data[name]!r}, not {value!r}"

    def _other_options(self, job: EnqueuedJob) -> Iterator[str]:
        for option in ("queue", "priority", "organization"):
            value, found = getattr(self, option), getattr(job, option)
            if value is not None and found != value:
                yield f"{option} is {found!r}, not {value!r}"

    def _other_time(self, job: EnqueuedJob) -> Iterator[str]:
        if self.delay is not None and abs((job.delay or 0.0) - self.delay) > DELAY_TOLERANCE:
            yield f"delay is {job.delay} s, not {self.delay:g} s"
        if self.run_at is None:
            return
        if job.run_at is None or abs((job.run_at - self.run_at).total_seconds()) > DELAY_TOLERANCE:
            yield f"run_at is {job.run_at}, not {self.run_at}"

    def __str__(self) -> str:
        wishes = [f"{name}={value!r}" for name, value in (self.data or {}).items()]
        for option in ("queue", "priority", "delay", "run_at", "organization"):
            if (value := getattr(self, option)) is not None:
                wishes.append(f"{option}={value!r}")
        return f"{self.name}" + (f" with {', '.join(wishes)}" if wishes else "")


def _failure(wanted: _Wanted, count: int | None, found: int, jobs: Sequence[EnqueuedJob]) -> str:
    expected = "at least once" if count is None else f"{count} times"
    beginning = f"Expected {wanted} to be enqueued {expected}, but it was {found} times. "
    return beginning + _listed(jobs, wanted)


def _listed(jobs: Sequence[EnqueuedJob], wanted: _Wanted | None = None) -> str:
    if not jobs:
        return "No job was enqueued."
    lines = []
    for job in jobs:
        differences = wanted.differences(job) if wanted and job.name == wanted.name else []
        lines.append(f"\n  - {job}" + (f"\n    ({'; '.join(differences)})" if differences else ""))
    return "Enqueued:" + "".join(lines)


def _as_stored(value: Any) -> Any:
    """Return a value as a job gets it, such as a list for a tuple; what has no JSON as it is."""
    try:
        return payload.decode(payload.encode({"value": value}))["value"]
    except PayloadError:  # for example ``unittest.mock.ANY``
        return value


def _name(job: AnyJob) -> str:
    if isinstance(job, Job):
        return job.name
    if isinstance(job, str):
        return job
    raise TypeError(f"{job!r} is not a job: give a function with @job, or the name of a job")


def _seconds(delay: float | timedelta | None) -> float | None:
    return None if delay is None else in_seconds("delay", delay)
