"""Enqueue jobs: check the options and the data, and build the row, which ``insertion`` writes."""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from .. import conf, payload
from ..database import database_for_new
from ..definitions import ids, registry
from ..definitions.durations import in_seconds
from ..definitions.validation import check_name
from ..errors import BadOption, UnknownJob, suggestion
from ..states import JobState, Priority
from . import uniqueness
from .context import current_job, current_origin
from .handle import JobHandle
from .insertion import insert

if TYPE_CHECKING:
    from ..definitions.definition import JobDefinition
    from ..models import JobRecord

logger = logging.getLogger("wellos_jobs")

MAX_ORGANIZATION_ID = 64
"""Characters of an organization's id that its column holds."""

JobTuple = tuple[str, Mapping[str, Any], "JobOptions | None"]
"""Name, data and options of one job for ``enqueue_bulk``."""


# --- options --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How one job is enqueued. None means: as declared, else 3 attempts and ``Priority.NORMAL``.

    Give ``delay`` (seconds or timedelta) or ``run_at`` (aware datetime), not both. A second enqueue
    with the same ``id`` creates no job.
    """

    max_attempts: int | None = None
    priority: Priority | None = None
    delay: float | timedelta | None = None
    timeout: float | timedelta | None = None
    organization: str | None = None
    id: uuid.UUID | str | None = None
    queue: str | None = None
    run_at: datetime | None = None
    requested_by: Any = None
    database: str | None = None
    batch: Any = None
    depends_on: Sequence[Any] = ()

    @classmethod
    def of(cls, owner: str, given: Mapping[str, Any]) -> JobOptions:
        """Make options from keywords.

        Raises:
            BadOption: an option is unknown or invalid. The message names it.
        """
        known = [option.name for option in dataclasses.fields(cls)]
        for name in given:
            if name not in known:
                hint = suggestion(name, known, "options")
                raise BadOption(f"{owner}: unknown option {name!r}{hint}")
        return cls(**given)

    def __post_init__(self) -> None:
        _check_time(self.delay, self.run_at)
        if self.timeout is not None:
            _seconds("timeout", self.timeout, least=0.001)

        attempts = self.max_attempts
        if attempts is not None and (
            isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1
        ):
            raise BadOption(
                f"max_attempts is {attempts!r}: it must be a whole number of at least 1"
            )

        if self.priority is not None and (
            isinstance(self.priority, bool) or self.priority not in set(Priority)
        ):
            choices = ", ".join(f"Priority.{priority.name}" for priority in Priority)
            raise BadOption(f"priority is {self.priority!r}: use one of {choices}")

        if self.database is not None:
            database_for_new(self.database)


def _check_time(delay: float | timedelta | None, run_at: datetime | None) -> None:
    if delay is not None and run_at is not None:
        raise BadOption(f"delay is {delay!r} and run_at is {run_at!r}: give one of them, not both")
    if delay is not None:
        _seconds("delay", delay)

    if run_at is not None and not isinstance(run_at, datetime):
        raise BadOption(f"run_at is {run_at!r}: give an aware datetime")
    if run_at is not None and timezone.is_naive(run_at):
        raise ValueError(f"run_at is {run_at!r}, a naive datetime: give it a time zone")


def _seconds(option: str, value: float | timedelta, least: float = 0.0) -> float:
    try:
        return in_seconds(option, value, least=least)
    except ValueError as error:
        raise BadOption(str(error)) from None


# --- enqueue --------------------------------------------------------------------------------------


def enqueue(
    name: str, data: Mapping[str, Any] | None = None, options: JobOptions | None = None
) -> JobHandle:
    """Enqueue a job by its name and return its handle, whose id is final at once.

    The row is written in the caller's transaction and pushed to Redis when that commits. A name
    that no ``@job`` declares here is accepted with a warning, because the workers may know it: its
    data count as version 1. If no worker knows it for ``UNKNOWN_JOB_WAIT`` seconds, it ends as a
    dead letter.

    Raises:
        BadOption: it is not a valid job name.
        TypeError: the data does not match the job's parameters.
        PayloadError: the data cannot be stored as JSON or is too large.
        UnknownQueue: ``RQ_QUEUES`` has no such queue.
    """
    return enqueue_bulk([(name, data or {}, options)])[0]


def enqueue_bulk(jobs: Sequence[JobTuple]) -> list[JobHandle]:
    """Enqueue many jobs, all or none: one INSERT per database, one push for each 250 jobs.

    Raises: as ``enqueue``; then none of the jobs is enqueued.
    """
    records = [build(name, data, options or JobOptions()) for name, data, options in jobs]
    return insert(records)


@dataclass(frozen=True, slots=True)
class JobQueue:
    """A queue by its name: ``JobQueue("email").enqueue("send-welcome", {...})``.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` has no such queue.
    """

    name: str

    def __post_init__(self) -> None:
        conf.usable_queue(self.name)

    def enqueue(
        self, name: str, data: Mapping[str, Any] | None = None, options: JobOptions | None = None
    ) -> JobHandle:
        """Enqueue one job in this queue."""
        return enqueue_bulk([(name, data or {}, self._in_this_queue(options))])[0]

    def enqueue_bulk(self, jobs: Sequence[JobTuple]) -> list[JobHandle]:
        """Enqueue many jobs in this queue, all or none."""
        return enqueue_bulk(
            [(name, data, self._in_this_queue(options)) for name, data, options in jobs]
        )

    def metrics(self) -> dict[str, Any]:
        """Return waiting, active, completed, failed, delayed, total, blocked and oldest_wait."""
        from .. import status

        return status.metrics([self.name])[self.name]

    def _in_this_queue(self, options: JobOptions | None) -> JobOptions:
        return dataclasses.replace(options or JobOptions(), queue=self.name)


# --- rows -----------------------------------------------------------------------------------------


def build(
    name: str, data: Mapping[str, Any], options: JobOptions, definition: JobDefinition | None = None
) -> JobRecord:
    """Return the unsaved row of a job, after all checks; the data is bound to its parameters."""
    definition = definition or _definition(name)
    if definition is not None and isinstance(data, Mapping):
        data = definition.bind((), data)
    return build_bound(name, data, options, definition)


def build_bound(
    name: str, data: Mapping[str, Any], options: JobOptions, definition: JobDefinition | None
) -> JobRecord:
    """Return the unsaved row of a job whose data is already bound."""
    from ..models import JobRecord

    queue = options.queue or (definition.queue if definition else "default")
    queue_settings = conf.usable_queue(queue)
    now = timezone.now()
    run_at = _run_at(options, now)

    record = JobRecord(
        id=ids.job_id(options.id) if options.id is not None else ids.new_id(),
        name=name,
        queue=queue,
        priority=int(_first(options.priority, definition and definition.priority, Priority.NORMAL)),
        state=JobState.DELAYED if run_at and run_at > now else JobState.WAITING,
        data=payload.encode(data, sensitive=definition.sensitive if definition else ()),
        version=definition.version if definition else 1,
        organization_id=_organization(options.organization),
        requested_by_id=getattr(options.requested_by, "pk", options.requested_by),
        max_attempts=_first(options.max_attempts, definition and definition.max_attempts, 3),
        timeout=_timeout(options, definition, queue_settings),
        context=_context(options),
        created_at=now,
        run_at=run_at,
    )
    record._state.db = database_for_new(options.database)
    record.batch_id = getattr(options.batch, "id", options.batch)
    record.needs = [needed_id(job) for job in options.depends_on]
    if options.delay is not None:
        record.due = time.monotonic() + _seconds("delay", options.delay)

    if definition is not None:
        _add_guards(record, definition, data)
    return record


def needed_id(job: Any) -> uuid.UUID:
    """Return the id of a job given as a handle, a row, or an id.

    Raises:
        BadOption: it is none of these.
    """
    job_id = ids.parse_id(getattr(job, "id", job))
    if job_id is None:
        raise BadOption(f"depends_on has {job!r}: give handles or ids of jobs")
    return job_id


def _add_guards(record: JobRecord, definition: JobDefinition, data: Mapping[str, Any]) -> None:
    """Set the keys of the job's limits and of ``unique``, which are made from its data."""
    name, organization = record.name, record.organization_id
    complete = {**definition.parameters.defaults, **data}

    if any(uniqueness.reads_sealed(limit.key, complete) for limit in definition.limits):
        complete = payload.unseal(complete)

    if definition.limits:
        record.context["limits"] = [
            limit.wire(name, complete, organization) for limit in definition.limits
        ]

    if definition.unique is not None:
        keyed = data if definition.unique.key is None else complete
        record.unique_key = uniqueness.key_of(definition.unique, name, keyed, organization)
        record.unique = definition.unique


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _definition(name: str) -> JobDefinition | None:
    try:
        return registry.get(name)
    except UnknownJob as error:
        check_name(name)
        logger.warning("enqueue: %s; the job needs a worker that knows it", error)
        return None


def _run_at(options: JobOptions, now: datetime) -> datetime | None:
    if options.delay is not None:
        return now + timedelta(seconds=_seconds("delay", options.delay))
    return options.run_at


def _timeout(
    options: JobOptions, definition: JobDefinition | None, queue_settings: Mapping[str, Any]
) -> float:
    if options.timeout is not None:
        return _seconds("timeout", options.timeout)
    if definition is not None and definition.timeout is not None:
        return definition.timeout
    return float(queue_settings.get("DEFAULT_TIMEOUT") or conf.current().default_timeout)


def _organization(value: Any) -> str:
    organization_id = "" if value is None else str(getattr(value, "pk", value))
    if len(organization_id) > MAX_ORGANIZATION_ID:
        raise BadOption(
            f"organization is {len(organization_id)} characters long: give an id of at most "
            f"{MAX_ORGANIZATION_ID}"
        )
    return organization_id


def _context(options: JobOptions) -> dict[str, Any]:
    context: dict[str, Any] = {**current_origin()}
    if options.id is not None:
        context["chosen_id"] = str(options.id)

    parent = current_job(default=None)
    if parent is not None:
        context["enqueued_by"] = parent.id
    return context
