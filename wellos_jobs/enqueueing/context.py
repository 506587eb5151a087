"""The job that is running: its identity for the code it calls, and for what it enqueues in turn."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

from ..definitions import ids
from ..errors import InvalidOperation
from ..payload.values import storable
from . import tracing

if TYPE_CHECKING:
    from .handle import JobHandle

_running: ContextVar[CurrentJob | None] = ContextVar("wellos_jobs_running", default=None)
_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class CurrentJob:
    """What a run knows about itself. ``attempt`` counts from 1."""

    id: str
    name: str
    queue: str
    attempt: int
    max_attempts: int
    organization_id: str = ""
    requested_by_id: str = ""
    database: str = "default"
    context: dict[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The job's arguments, as its function gets them."""
    _report: Callable[[int, str, bool], None] | None = field(default=None, repr=False)

    @property
    def due_at(self) -> datetime | None:
        """When a schedule's job was due, however late and often it runs; any other job: when it was enqueued.

        To the millisecond, in UTC. None for a job whose id was chosen by whoever enqueued it.
        """
        chosen = ids.parse_id(self.id)
        return None if chosen is None else ids.moment_of(chosen)

    @property
    def needs(self) -> list[JobHandle]:
        """The jobs this one waited for, as handles: their results are there to be read."""
        from ..models import JobDependency
        from .handle import JobHandle

        edges = JobDependency.objects.using(self.database).filter(job__pk=self.id).order_by("pk")
        rows = edges.values_list("needs_id", "needs__queue")
        return [JobHandle(needed, queue, self.database) for needed, queue in rows]

    @property
    def batch_id(self) -> uuid.UUID | None:
        """The batch this job belongs to, which takes more jobs by ``Batch.get``; None if it belongs to none."""
        from ..models import JobRecord

        known = ids.parse_id(self.id)
        rows = JobRecord.objects.using(self.database)
        return (
            None
            if known is None
            else rows.filter(pk=known).values_list("batch_id", flat=True).first()
        )

    def report_progress(self, percent: float, message: str = "") -> None:
        """Tell how far this run has come, 0 to 100, with a short message for people.

        Cheap enough for a loop: calls in quick succession are thinned out, the last one before a
        pause and 100 are always sent.

        Raises:
            ValueError: the percentage is not between 0 and 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"progress is {percent!r}: it must be between 0 and 100")
        if self._report is not None:
            self._report(int(percent), storable(str(message)[:200]), percent >= 100)


@overload
def current_job() -> CurrentJob: ...
@overload
def current_job(default: None) -> CurrentJob | None: ...
def current_job(default: Any = _MISSING) -> CurrentJob | None:
    """Return the job that is running.

    Raises:
        InvalidOperation: no job is running here, and no default was given.
    """
    job = _running.get()
    if job is None and default is _MISSING:
        raise InvalidOperation("No job is running here: current_job() works inside a run only")
    return job


def report_progress(percent: float, message: str = "") -> None:
    """Tell how far the running job has come; does nothing when its function is called outside a worker."""
    job = _running.get()
    if job is not None:
        job.report_progress(percent, message)


class running:  # noqa: N801  # reads as a phrase: ``with running(job):``
    """Make a job the current one for a block."""

    def __init__(self, job: CurrentJob) -> None:
        self._job = job

    def __enter__(self) -> CurrentJob:
        self._token = _running.set(self._job)
        self._origin = tracing.begin(self._job.context)
        return self._job

    def __exit__(self, *_: object) -> None:
        tracing.end(self._origin)
        _running.reset(self._token)
