"""Enqueue: check, INSERT a row in the caller's transaction, push it to Redis on commit."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, connections, router, transaction
from django.utils import timezone

from . import blocking, conf, ids, inserts, payload, queues, registry, tracing, uniqueness
from .commits import once_committed
from .context import current_job
from .errors import BadOption, UnknownJob
from .handles import JobHandle
from .queues import push_records
from .retry import in_seconds
from .states import JobState, Priority

if TYPE_CHECKING:
    from .models import JobRecord
    from .registry import JobDefinition

logger = logging.getLogger("wellos_jobs")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How one job is enqueued. None means: what the job's declaration says, else 3 attempts and NORMAL.

    ``delay`` (seconds or timedelta) and ``run_at`` (aware datetime) exclude each other. A second enqueue with the
    same ``id`` makes no job.
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
        if self.priority is not None and (isinstance(self.priority, bool) or self.priority not in set(Priority)):
            raise BadOption(f"priority is {self.priority!r}: use one of {', '.join(p.name for p in Priority)}")
        if self.run_at is not None and not isinstance(self.run_at, datetime):
            raise BadOption(f"run_at is {self.run_at!r}: give an aware datetime")
        if self.run_at is not None and timezone.is_naive(self.run_at):
            raise ValueError(f"run_at is {self.run_at!r}, a naive datetime: give it a time zone")
        if self.database is not None and self.database not in connections:
            raise BadOption(f"database is {self.database!r}: DATABASES has {', '.join(connections)}")


def enqueue(name: str, data: Mapping[str, Any] | None = None, options: JobOptions | None = None) -> JobHandle:
    """Enqueue a job by its name and return its handle, whose id is final at once.

    The row is written in the caller's transaction and pushed to Redis when that commits. A name that no ``@job``
    declares is accepted with a warning, because workers may know it; if none does, it ends as a dead letter.

    Raises:
        BadOption: no job could have this name.
        TypeError: the data does not fit the job's parameters.
        PayloadError: the data cannot be carried as JSON or is too large.
        UnknownQueue: ``RQ_QUEUES`` does not name the queue.
    """
    return enqueue_bulk([(name, data or {}, options)])[0]


def enqueue_bulk(jobs: Sequence[tuple[str, Mapping[str, Any], JobOptions | None]]) -> list[JobHandle]:
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

    def enqueue(self, name: str, data: Mapping[str, Any] | None = None, options: JobOptions | None = None) -> JobHandle:
        """Enqueue one job into this queue."""
        return enqueue_bulk([(name, data or {}, self._here(options))])[0]

    def enqueue_bulk(self, jobs: Sequence[tuple[str, Mapping[str, Any], JobOptions | None]]) -> list[JobHandle]:
        """Enqueue many jobs into this queue. All or none."""
        return enqueue_bulk([(name, data, self._here(options)) for name, data, options in jobs])

    def metrics(self) -> dict[str, Any]:
        """Return waiting, active, completed, failed, delayed, total, blocked and oldest_wait of this queue."""
        return queues.metrics([self.name])[self.name]

    def _here(self, options: JobOptions | None) -> JobOptions:
        return dataclasses.replace(options or JobOptions(), queue=self.name)


def build(
    name: str, data: Mapping[str, Any], options: JobOptions, definition: JobDefinition | None = None
) -> JobRecord:
    """Make the unsaved row of a job; all checks happen here."""
    from .models import JobRecord

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
        record.context["limits"] = [limit.wire(name, known, organization) for limit in definition.limits]
    if definition.unique is not None:
        keyed = data if definition.unique.key is None else known
        record.unique_key = uniqueness.key_of(definition.unique, name, keyed, organization)
        record.unique = definition.unique


def insert(records: Sequence[JobRecord]) -> list[JobHandle]:
    """Write rows and push them when the caller's transaction commits. Ids that exist already make no job."""
    new: set[int] = set()
    by_database: dict[str, list[JobRecord]] = {}
    for record in records:
        by_database.setdefault(str(record._state.db), []).append(record)
    for database, group in by_database.items():
        if any(record.needs for record in group):
            with transaction.atomic(using=database):
                blocking.before_insert(group, database)
                fresh = _insert_group(group, database)
                blocking.after_insert(fresh, database)
            once_committed(database, blocking.after_commit, fresh, database)
        else:
            fresh = _insert_group(group, database)
        new.update(map(id, fresh))
        ready = [record for record in fresh if record.state != JobState.BLOCKED]
        if ready:
            once_committed(database, push_records, ready)
    return [
        JobHandle(record.pk, record.queue, str(record._state.db), duplicate=id(record) not in new) for record in records
    ]


def _insert_group(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Insert rows into one database; return those that are new."""
    if any(record.unique is not None for record in records):
        with transaction.atomic(using=database):
            held = _claim_keys(records, database)
            return _insert_rows(held, database) if held else []
    return _insert_rows(records, database)


def _insert_rows(records: list[JobRecord], database: str) -> list[JobRecord]:
    if len(records) == 1:
        record = records[0]
        if not _is_chosen(record):
            record.save(force_insert=True, using=database)
            return records
        return records if _inserted(record, database) else []
    with transaction.atomic(using=database):
        wanted = _unknown(records, database)
        if not any(map(_is_chosen, wanted)):
            inserts.insert_many(wanted, database)
            return wanted
        ordered = sorted(wanted, key=lambda record: record.pk)  # so that two who enqueue the same do not deadlock
        try:
            with transaction.atomic(using=database):
                inserts.insert_many(ordered, database)
            return wanted
        except IntegrityError:  # somebody else has just inserted one of the chosen ids: find out which
            new = {id(record) for record in ordered if _inserted(record, database)}
            return [record for record in wanted if id(record) in new]


def _claim_keys(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Claim the unique keys of new jobs; return the jobs to insert. The others stand for the jobs that hold their keys.

    In the order of the keys, so that two who enqueue the same do not deadlock.
    """
    holders: dict[str, JobRecord] = {}
    replaced: dict[uuid.UUID, uuid.UUID] = {}
    duplicates: set[int] = set()
    for record in sorted((one for one in records if one.unique is not None), key=lambda one: one.unique_key):
        holder = holders.get(record.unique_key)
        if holder is None and record.unique is not None:
            holder = uniqueness.claim(record, record.unique_key, record.unique, database)
            holders[record.unique_key] = holder or record
        if holder is not None:
            replaced[record.pk] = holder.pk
            duplicates.add(id(record))
            record.pk, record.queue = holder.pk, holder.queue  # the handle leads to the job that counts
    if not replaced:
        return records
    for record in records:  # of a flow, say
        record.needs = [replaced.get(needed, needed) for needed in record.needs]
        record.parent_id = replaced.get(record.parent_id, record.parent_id) if record.parent_id else None
    return [record for record in records if id(record) not in duplicates]


def _is_chosen(record: JobRecord) -> bool:
    return record.context.get("chosen_id") is not None


def _unknown(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Return the rows to insert: without chosen ids that exist already or come a second time."""
    chosen = [record.pk for record in records if _is_chosen(record)]
    known = type(records[0]).objects.using(database).in_bulk(chosen) if chosen else {}
    wanted: list[JobRecord] = []
    for record in records:
        first = known.get(record.pk) if _is_chosen(record) else None
        if first is None:
            wanted.append(record)
            known[record.pk] = record
        else:
            record.queue = first.queue  # the handle leads to the job that exists
    return wanted


def _inserted(record: JobRecord, database: str) -> bool:
    """Insert a row; False if its id, one of the caller's choice, exists already."""
    try:
        with transaction.atomic(using=database):
            record.save(force_insert=True, using=database)
    except IntegrityError:
        first = type(record).objects.using(database).filter(pk=record.pk).first()
        if first is None:
            raise
        record.queue = first.queue  # the handle leads to the job that exists
        return False
    return True


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


def _timeout(options: JobOptions, definition: JobDefinition | None, limits: Mapping[str, Any]) -> float:
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
    context: dict[str, Any] = {**tracing.origin()}
    if options.id is not None:
        context["chosen_id"] = str(options.id)
    parent = current_job(default=None)
    if parent is not None:
        context["enqueued_by"] = parent.id
    return context
