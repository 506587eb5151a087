"""Enqueue: what a job is asked for with, checked and made into a row, which ``admission`` then lets in."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections, router
from django.utils import timezone

from .. import conf, payload
from ..definitions import ids, registry
from ..definitions.retry import in_seconds
from ..errors import BadOption, UnknownJob
from ..states import JobState, Priority
from . import uniqueness
from .context import current_job, current_origin
from .handle import JobHandle
from .insertion import insert

if TYPE_CHECKING:
    from ..definitions.registry import JobDefinition
    from ..models import JobRecord

logger = logging.getLogger("wellos_jobs")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How one job is enqueued. None means: what the job's declaration says, else 3 attempts and NORMAL.

    ``delay`` (seconds or timedelta) and ``run_at`` (aware datetime) exclude each other. A second
    enqueue with the same ``id`` makes no job.
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
        """Make options from keywords; an unknown one is a BadOption that names the near miss."""
        known = [option.name for option in dataclasses.fields(cls)]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
                raise BadOption(f"{owner}: there is no option {name!r}: {hint}")
        return cls(**given)

    def __post_init__(self) -> None:
        if self.delay is not None and self.run_at is not None:
            raise BadOption("Give either delay or run_at, not both")
        if self.delay is not None:
            _seconds("delay", self.delay)
        if self.timeout is not None:
            _seconds("timeout", self.timeout, least=0.001)
        most = self.max_attempts
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise BadOption(f"max_attempts is {most!r}: it must be a whole number of at least 1")
        if self.priority is not None and (
            isinstance(self.priority, bool) or self.priority not in set(Priority)
        ):
            raise BadOption(
                f"priority is {self.priority!r}: use one of {', '.join(p.name for p in Priority)}"
            )
        if self.run_at is not None and not isinstance(self.run_at, datetime):
            raise BadOption(f"run_at is {self.run_at!r}: give an aware datetime")
        if self.run_at is not None and timezone.is_naive(self.run_at):
            raise ValueError(f"run_at is {self.run_at!r}, a naive datetime: give it a time zone")
        if self.database is not None and self.database not in connections:
            raise BadOption(
                f"database is {self.database!r}: DATABASES has {', '.join(connections)}"
            )


def enqueue(
    name: str, data: Mapping[str, Any] | None = None, options: JobOptions | None = None
) -> JobHandle:
    """Enqueue a job by its name and return its handle, whose id is final at once.

    The row is written in the caller's transaction and pushed to Redis when that commits. A name
    that no ``@job`` declares is accepted with a warning, because workers may know it; if none does,
    it ends as a dead letter.

    Raises:
        BadOption: no job could have this name.
        TypeError: the data does not fit the job's parameters.
        PayloadError: the data cannot be carried as JSON or is too large.
        UnknownQueue: ``RQ_QUEUES`` does not name the queue.
    """
    return enqueue_bulk([(name, data or {}, options)])[0]


def enqueue_bulk(
    jobs: Sequence[tuple[str, Mapping[str, Any], JobOptions | None]],
) -> list[JobHandle]:
    """Enqueue many jobs: all rows in one INSERT batch a database, one push for each 250 jobs. All or none.

    Raises: as ``enqueue``; then none of the jobs is enqueued.
    """
    built = [build(name, data, options or JobOptions()) for name, data, options in jobs]
    return insert(built)


@dataclass(frozen=True, slots=True)
class JobQueue:
    """A queue by its name, as the specification has it."""

    name: str

    def __post_init__(self) -> None:
        conf.queue(self.name)

    def enqueue(
        self, name: str, data: Mapping[str, Any] | None = None, options: JobOptions | None = None
    ) -> JobHandle:
        """Enqueue one job into this queue."""
        return enqueue_bulk([(name, data or {}, self._here(options))])[0]

    def enqueue_bulk(
        self, jobs: Sequence[tuple[str, Mapping[str, Any], JobOptions | None]]
    ) -> list[JobHandle]:
        """Enqueue many jobs into this queue. All or none."""
        return enqueue_bulk([(name, data, self._here(options)) for name, data, options in jobs])

    def metrics(self) -> dict[str, Any]:
        """Return waiting, active, completed, failed, delayed, total, blocked and oldest_wait."""
        from .. import status

        return status.metrics([self.name])[self.name]

    def _here(self, options: JobOptions | None) -> JobOptions:
        return dataclasses.replace(options or JobOptions(), queue=self.name)


def build(
    name: str, data: Mapping[str, Any], options: JobOptions, definition: JobDefinition | None = None
) -> JobRecord:
    """Make the unsaved row of a job; all checks happen here."""
    from ..models import JobRecord

    definition = definition or _definition(name)
    if definition is not None and isinstance(data, Mapping):
        data = definition.bind((), data)
    queue = options.queue or (definition.queue if definition else "default")
    limits = conf.queue(queue)
    now = timezone.now()
    run_at = _run_at(options, now)
    record = JobRecord(
        id=ids.job_id(options.id) if options.id is not None else ids.new_id(),
        name=name,
        queue=queue,
        priority=int(_first(options.priority, definition and definition.priority, Priority.NORMAL)),
        state=JobState.DELAYED if run_at and run_at > now else JobState.WAITING,
        data=payload.encode(data, sensitive=definition.sensitive if definition else ()),
        organization_id=_organization(options.organization),
        requested_by_id=getattr(options.requested_by, "pk", options.requested_by),
        max_attempts=_first(options.max_attempts, definition and definition.max_attempts, 3),
        timeout=_timeout(options, definition, limits),
        context=_context(options),
        created_at=now,
        run_at=run_at,
    )
    record._state.db = options.database or router.db_for_write(JobRecord)
    record.batch_id = getattr(options.batch, "id", options.batch)
    record.needs = [needed_id(job) for job in options.depends_on]
    if definition is not None:
        _guard(record, definition, data)
    return record


def needed_id(job: Any) -> uuid.UUID:
    """Return the id of a job that another one needs: of a handle, a row, or an id.

    Raises:
        BadOption: it is none of these.
    """
    found = ids.parse_id(getattr(job, "id", job))
    if found is None:
        raise BadOption(f"depends_on has {job!r}: give handles or ids of jobs")
    return found


def _guard(record: JobRecord, definition: JobDefinition, data: Mapping[str, Any]) -> None:
    """Work out the keys of a job's guards from its plain data; the keys are all that is kept of them."""
    name, organization = record.name, record.organization_id
    known = {**definition.parameters.defaults, **data}
    if definition.limits:
        record.context["limits"] = [
            limit.wire(name, known, organization) for limit in definition.limits
        ]
    if definition.unique is not None:
        keyed = data if definition.unique.key is None else known
        record.unique_key = uniqueness.key_of(definition.unique, name, keyed, organization)
        record.unique = definition.unique


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _definition(name: str) -> JobDefinition | None:
    try:
        return registry.get(name)
    except UnknownJob as error:
        registry.check_name(name)
        logger.warning("enqueue: %s; a worker that knows it must run", error)
        return None


def _seconds(option: str, value: float | timedelta, least: float = 0.0) -> float:
    try:
        return in_seconds(option, value, least=least)
    except ValueError as error:
        raise BadOption(str(error)) from None


def _run_at(options: JobOptions, now: datetime) -> datetime | None:
    if options.delay is not None:
        return now + timedelta(seconds=_seconds("delay", options.delay))
    return options.run_at


def _timeout(
    options: JobOptions, definition: JobDefinition | None, limits: Mapping[str, Any]
) -> float:
    if options.timeout is not None:
        return _seconds("timeout", options.timeout)
    if definition is not None and definition.timeout is not None:
        return definition.timeout
    return float(limits.get("DEFAULT_TIMEOUT") or conf.current().default_timeout)


def _organization(value: Any) -> str:
    text = "" if value is None else str(getattr(value, "pk", value))
    if len(text) > 64:
        raise BadOption(f"organization is {len(text)} characters long: at most 64 fit")
    return text


def _context(options: JobOptions) -> dict[str, Any]:
    context: dict[str, Any] = {**current_origin()}
    if options.id is not None:
        context["chosen_id"] = str(options.id)
    parent = current_job(default=None)
    if parent is not None:
        context["enqueued_by"] = parent.id
    return context
