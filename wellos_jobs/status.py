"""Job status and queue metrics. Read-only, in Redis and in the database."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import InterfaceError, OperationalError
from django.db.models import Count

from . import broker, conf, payload
from .broker import job_hash, keys, queues
from .database import default_database, has_job_table, job_databases
from .definitions import ids
from .errors import DatabaseUnavailable, JobNotFound
from .models import JobRecord
from .states import JobState

logger = logging.getLogger("wellos_jobs")

_IN_TOTAL = ("waiting", "active", "completed", "failed", "delayed")
_MAX_RQ_ID = 180
"""Characters of a plain RQ job's id that its column holds."""


def find(job_id: object) -> JobRecord | None:
    """Return the row of a job by its id: a UUID, its text, or the id of a plain RQ job.

    Raises:
        DatabaseUnavailable: no available database has it, and another one is unavailable.
    """
    chosen, text = ids.parse_id(job_id), str(job_id)
    if chosen is None and not (text.isprintable() and 0 < len(text) <= _MAX_RQ_ID):
        return None

    unavailable: dict[str, Exception] = {}
    first = default_database()
    for alias in dict.fromkeys((first, *job_databases())):
        try:
            record = (
                _find_in(alias, chosen, text) if alias == first or has_job_table(alias) else None
            )
        except (OperationalError, InterfaceError) as error:
            unavailable[alias] = error
            continue
        if record is not None:
            return record

    for alias, cause in unavailable.items():
        raise DatabaseUnavailable(
            f"Job {text} may be in the database {alias!r}, which is unavailable: {cause}"
        ) from cause
    return None


def _find_in(alias: str, chosen: uuid.UUID | None, text: str) -> JobRecord | None:
    rows = JobRecord.objects.using(alias)
    record = rows.filter(pk=chosen).first() if chosen else None
    return record or rows.filter(rq_id=text).first()


def job_status(job: JobRecord | uuid.UUID | str) -> dict[str, Any]:
    """Return a job's status: from Redis if it has newer values, else from the row.

    Keys: id, name, queue, priority, state, progress (0 to 100), progress_message, data (sensitive
    values masked), result, error (None if there is none), attempts, max_attempts, and the times
    created_at, run_at, enqueued_at, started_at, finished_at (aware, None if not yet). ``problem``,
    a sentence, is present only if Redis could not be read.

    Raises:
        JobNotFound: no database has a row with this id.
        DatabaseUnavailable: no available database has one, and another one is unavailable.
    """
    record = job if isinstance(job, JobRecord) else find(job)
    if record is None:
        raise JobNotFound(f"There is no job {job}")
    if has_ended(record):
        return _from_row(record)
    try:
        values = broker.client(record.queue).hmget(hash_key(record), FIELDS)
    except broker.Unavailable as error:
        return with_problem(record, why(error))
    except broker.Error as error:
        return _unreadable(record, error)
    return with_hash(record, values)


def has_ended(record: JobRecord) -> bool:
    """Return whether the row is final, so that Redis has nothing newer."""
    return JobState(record.state).is_final and not record.is_foreign


def hash_key(record: JobRecord) -> str:
    """Return the key of the job's hash in Redis, which may be ahead of the row."""
    return keys.job(record.rq_id or record.pk)


def with_hash(record: JobRecord, values: Sequence[bytes | str | None]) -> dict[str, Any]:
    """Return the status from a row and the values of ``FIELDS`` in Redis. No query."""
    try:
        return _from_row(record) | _from_hash(record, values)
    except ValueError as error:
        return _unreadable(record, error)


def with_problem(record: JobRecord, problem: str) -> dict[str, Any]:
    """Return the status from the row alone, with the reason why Redis was not read."""
    return _from_row(record) | {"problem": problem}


def _unreadable(record: JobRecord, error: Exception) -> dict[str, Any]:
    logger.warning("job %s: its hash in Redis cannot be read: %s", record.pk, error)
    return with_problem(record, why(error))


def why(error: Exception) -> str:
    """Return a sentence that says why Redis could not be read."""
    unavailable = isinstance(error, broker.Unavailable)
    what = "Redis is unavailable" if unavailable else "The job's hash in Redis cannot be read"
    return f"{what} ({error}): these are the values of the database"


def queue_metrics(queue: str) -> dict[str, Any]:
    """Return the metrics of a queue.

    Keys: name, waiting, active, completed, failed, delayed, total, blocked, oldest_wait (seconds,
    None if nothing waits) and paused. completed and failed count the kept rows. If Redis
    is unavailable, its values are None and ``problem`` says why.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` has no such queue.
    """
    conf.queue(queue)
    return _metrics([queue])[0]


def metrics(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the metrics by queue: one round trip for each Redis and one query.

    See ``queue_counts``; completed and failed are counted in the kept rows. Raises redis-py's
    errors.
    """
    found = queue_counts(names, (JobState.COMPLETED, JobState.FAILED))
    return {
        name: {"name": name, "total": sum(counts[state] for state in _IN_TOTAL), **counts}
        for name, counts in found.items()
    }


def queue_counts(
    names: Sequence[str], kept_states: Sequence[JobState] = ()
) -> dict[str, dict[str, Any]]:
    """Return the current counts by queue: one round trip for each Redis and one query.

    Keys: waiting, active, delayed, blocked, oldest_wait, paused, and the kept rows of each of
    ``kept_states``. Our blocked jobs exist only in rows, those of plain RQ only in Redis. Raises
    redis-py's errors.
    """
    live = queues.all_counts(names)
    rows = _count_rows(names, (JobState.BLOCKED, *kept_states))
    return {
        name: {
            "waiting": now.waiting,
            "active": now.active,
            "delayed": now.delayed,
            "blocked": now.blocked + rows.get((name, JobState.BLOCKED.value), 0),
            "oldest_wait": now.oldest_wait,
            "paused": now.paused,
            **{state.value: rows.get((name, state.value), 0) for state in kept_states},
        }
        for name, now in live.items()
    }


def all_queue_metrics() -> list[dict[str, Any]]:
    """Return the metrics of all queues, in the order of ``RQ_QUEUES``.

    One query, and one round trip for each Redis.
    """
    return _metrics(list(conf.queues()))


def _from_row(record: JobRecord) -> dict[str, Any]:
    return {
        "id": str(record.pk),
        "name": record.name,
        "queue": record.queue,
        "priority": record.priority,
        "state": record.state,
        "progress": record.progress,
        "progress_message": record.progress_message,
        "data": payload.mask(record.data),
        "result": payload.mask_value(record.result),
        "error": record.error or None,
        "attempts": record.attempts,
        "max_attempts": record.max_attempts,
        "created_at": record.created_at,
        "run_at": record.run_at,
        "enqueued_at": record.enqueued_at,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
    }


def _from_hash(record: JobRecord, values: Sequence[bytes | str | None]) -> dict[str, Any]:
    """Return the values that are newer in Redis; none if it lacks the job or has an earlier run."""
    found = job_hash.decode(FIELDS, values)
    state = job_hash.state(found, record.replays)
    if state is None:
        return {}

    live: dict[str, Any] = {"state": state.value}
    if not record.is_foreign:
        # A field that our hash lacks is empty by now, such as the error of an earlier attempt.
        live |= {"progress": 0, "progress_message": "", "error": None, "result": None}

    for field, (name, read) in _LIVE.items():
        if found[field]:
            live[name] = read(found[field])
    return live


def _result(text: str) -> Any:
    return payload.mask_value(json.loads(text))


def _moment(text: str) -> datetime:
    """Parse a time as RQ writes it; old hashes have no zone and mean UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# The fields of a job hash that may be newer than the row: their names here, and how to read them.
_LIVE: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    job_hash.PROGRESS: ("progress", int),
    job_hash.MESSAGE: ("progress_message", str),
    job_hash.RESULT: ("result", _result),
    job_hash.ERROR: ("error", str),
    job_hash.ATTEMPT: ("attempts", int),
    job_hash.MAX_ATTEMPTS: ("max_attempts", int),
    job_hash.ENQUEUED_AT: ("enqueued_at", _moment),
    job_hash.STARTED_AT: ("started_at", _moment),
    job_hash.ENDED_AT: ("finished_at", _moment),
}
FIELDS = (job_hash.STATUS, job_hash.GENERATION, *_LIVE)
"""The fields of a job hash that make up its status."""


def _metrics(names: list[str]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for queues_there in broker.sources().values():
        chosen = [name for name in queues_there if name in names]
        if not chosen:
            continue
        try:
            found.update(metrics(chosen))
        except broker.Error as error:
            found.update(_without_redis(chosen, f"Redis is unavailable: {error}"))
    return [found[name] for name in names]


def _without_redis(names: list[str], problem: str) -> dict[str, dict[str, Any]]:
    """Return the metrics of queues from the rows alone."""
    counted = _count_rows(names, (JobState.COMPLETED, JobState.FAILED))
    unknown = dict.fromkeys(
        ("waiting", "active", "delayed", "total", "blocked", "oldest_wait", "paused")
    )
    return {
        name: {
            "name": name,
            **unknown,
            "completed": counted.get((name, JobState.COMPLETED.value), 0),
            "failed": counted.get((name, JobState.FAILED.value), 0),
            "problem": problem,
        }
        for name in names
    }


def _count_rows(names: Sequence[str], states: Sequence[JobState]) -> dict[tuple[str, str], int]:
    """Return the number of rows by queue and state, in one query."""
    rows = JobRecord.objects.filter(queue__in=names, state__in=states).order_by()
    counted = rows.values_list("queue", "state").annotate(Count("pk"))
    return {(queue, state): count for queue, state, count in counted}
