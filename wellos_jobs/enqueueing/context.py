"""The running job, and the request that the current work comes from."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

from ..definitions import ids
from ..errors import InvalidOperation
from ..payload.values import storable

if TYPE_CHECKING:
    from .handle import JobHandle

REQUEST_ID = re.compile(r"[A-Za-z0-9._:@=+/-]{1,128}")
"""A usable ``X-Request-ID``; any other value is ignored."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

Origin = dict[str, str]
"""``request_id`` and ``trace_id``, as far as they are known."""

_running: ContextVar[CurrentJob | None] = ContextVar("wellos_jobs_running", default=None)
_origin: ContextVar[Origin] = ContextVar("wellos_jobs_origin")
_MISSING: Any = object()


# --- the running job ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CurrentJob:
    """The job that is running. ``attempt`` counts from 1."""

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
    worker: str = ""
    """The name of the worker that runs it, as in its row."""
    replays: int = 0
    """How often the job was replayed: ``attempt`` counts anew after each."""
    _report: Callable[[int, str, bool], None] | None = field(default=None, repr=False)

    @property
    def due_at(self) -> datetime | None:
        """When the job was due by its schedule; for any other job, when it was enqueued.

        Retries do not change it. In UTC, to the millisecond; None if the caller chose the id.
        """
        job_id = ids.parse_id(self.id)
        return None if job_id is None else ids.moment_of(job_id)

    @property
    def needs(self) -> list[JobHandle]:
        """Handles of the jobs this one depends on, to read their results."""
        from ..models import JobDependency
        from .handle import JobHandle

        edges = JobDependency.objects.using(self.database).filter(job__pk=self.id).order_by("pk")
        rows = edges.values_list("needs_id", "needs__queue")
        return [JobHandle(needed, queue, self.database) for needed, queue in rows]

    @property
    def batch_id(self) -> uuid.UUID | None:
        """The id of the job's batch, for ``Batch.get``; None if it belongs to none. No query."""
        return ids.parse_id(self.context.get("batch"))

    def report_progress(self, percent: float, message: str = "") -> None:
        """Report how far this run is, 0 to 100, with a short message to show.

        Cheap enough for a loop: of calls in quick succession some are skipped. The last one before
        a pause and 100 are always sent.

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
        raise InvalidOperation(
            "No job is running here: call current_job() inside a job, or current_job(None)"
        )
    return job


def report_progress(percent: float, message: str = "") -> None:
    """Report how far the running job is, 0 to 100; does nothing outside a job."""
    job = _running.get()
    if job is not None:
        job.report_progress(percent, message)


@contextmanager
def running(job: CurrentJob) -> Iterator[CurrentJob]:
    """Make a job the current one inside the block."""
    token = _running.set(job)
    try:
        with working_for(job.context):
            yield job
    finally:
        _running.reset(token)


# --- the request behind it ------------------------------------------------------------------------


def current_origin() -> Origin:
    """Return the ids of the request that the current work comes from; empty if it has none."""
    return _origin.get({})


@contextmanager
def working_for(origin: Origin) -> Iterator[None]:
    """Make a request the origin of all work inside the block. Other keys are ignored."""
    known = {name: origin[name] for name in ("request_id", "trace_id") if origin.get(name)}
    token = _origin.set(known)
    try:
        yield
    finally:
        _origin.reset(token)


def origin_of_headers(request_id: str, traceparent: str) -> Origin:
    """Return the ids in a request's headers; without a usable request id it gets a new one."""
    origin = {"request_id": request_id if REQUEST_ID.fullmatch(request_id) else uuid.uuid4().hex}

    trace = _TRACEPARENT.fullmatch(traceparent)
    if trace is not None and trace[1].strip("0"):
        origin["trace_id"] = trace[1]
    return origin
