"""Push committed rows to Redis."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError, connections

from .. import broker, conf, payload, signals
from ..broker import job_hash, kept_away
from ..definitions import registry
from ..definitions.code import code_of
from ..states import EventName, JobState
from . import stand_in
from .chunks import in_chunks

if TYPE_CHECKING:
    from ..models import JobRecord

logger = logging.getLogger("wellos_jobs")

PUSH_CHUNK = 250
"""Jobs in one call of the push script: enough to save round trips, too few to block Redis."""

OVERFULL_PAUSE = 0.05
"""Seconds a push sleeps while the event stream is above STREAM_MAX: the ledger catches up."""


_owners: dict[tuple[str, str], str] = {}
"""The installation that a Redis is known to belong to, by database and source."""


class OthersRedis(broker.Error):
    """Redis belongs to another installation, which would run the jobs."""


Connect = Callable[[str], AbstractContextManager[broker.Client]]


def push(
    records: Sequence[JobRecord],
    event: EventName = EventName.ENQUEUED,
    deadline: str = "",
    *,
    connect: Connect = broker.briefly,
) -> int:
    """Push committed rows, with one round trip for each ``PUSH_CHUNK`` jobs. Known ids are skipped.

    ``deadline`` is a time on the Redis clock after which the push is refused: for callers that
    read the rows a while ago. ``connect`` gives the client for a Redis. Returns how many were new
    to Redis. Raises redis-py's errors.
    """
    by_source: dict[str, list[JobRecord]] = {}
    for record in records:
        by_source.setdefault(broker.source_of(record.queue), []).append(record)

    pushed = 0
    for source, group in by_source.items():
        for chunk in in_chunks(group, PUSH_CHUNK):
            pushed += _push_what_fits(source, chunk, event, deadline, connect)
    return pushed


def push_records(records: Sequence[JobRecord], event: EventName | str = EventName.ENQUEUED) -> None:
    """Push committed rows. If that fails, log it: the relay pushes them later."""
    if (runner := stand_in.current()) is not None:
        runner.push(records, EventName(event))
        return
    if not _may_push(records):
        return
    try:
        push(records, EventName(event))
    except broker.KeptAway as error:
        logger.debug("%d jobs are not pushed: %s", len(records), error)
    except (OperationalError, InterfaceError) as error:  # it is asked whose this Redis is
        logger.warning(
            "the database is unavailable (%s): the relay will push %d committed jobs",
            error,
            len(records),
        )
    except broker.Unavailable as error:
        logger.warning(
            "Redis is unavailable (%s): the relay will push %d committed jobs", error, len(records)
        )
    except OthersRedis as error:
        logger.error("%d committed jobs are not pushed: %s", len(records), error)
    except broker.Error:  # for example, the Redis user lacks a permission
        logger.exception(
            "Redis refuses the push: the relay will push %d committed jobs once it is accepted",
            len(records),
        )


def _may_push(records: Sequence[JobRecord]) -> bool:
    """Return whether the rows are committed. A test may call what it has registered for the commit
    of a transaction that it rolls back: a worker would run jobs that never were."""
    open_in = {
        alias
        for alias in {record._state.db or "default" for record in records}
        if connections[alias].in_atomic_block
    }
    if not open_in or kept_away.is_allowed():
        return True
    logger.debug(
        "%d jobs are not pushed: their transaction on %s is still open",
        len(records),
        ", ".join(sorted(open_in)),
    )
    return False


def announce(records: Iterable[JobRecord], event: EventName, at: datetime) -> None:
    """Log and signal an event of these jobs."""
    for record in records:
        signals.announce(
            event,
            job_id=str(record.pk),
            name=record.name,
            queue=record.queue,
            attempt=record.attempts,
            at=at,
        )


def _push_what_fits(
    source: str, records: Sequence[JobRecord], event: EventName, deadline: str, connect: Connect
) -> int:
    """Push these jobs, in halves if the memory of Redis is too full for all of them at once."""
    try:
        return _push_chunk(source, records, event, deadline, connect)
    except broker.OutOfMemory:
        if len(records) == 1:
            raise
    middle = len(records) // 2
    return sum(
        _push_what_fits(source, half, event, deadline, connect)
        for half in (records[:middle], records[middle:])
    )


def _push_chunk(
    source: str, records: Sequence[JobRecord], event: EventName, deadline: str, connect: Connect
) -> int:
    jobs = [payload.to_json(_message(record, event)) for record in records]
    with connect(source) as connection:
        backlog, now, *codes = _run(connection, source, records[0], deadline, jobs)

    new = [record for record, code in zip(records, codes, strict=True) if code == 1]
    announce(new, event, datetime.fromtimestamp(float(now), tz=UTC))
    _slow_down(source, int(backlog))
    return len(new)


def _run(
    connection: broker.Client,
    source: str,
    record: JobRecord,
    deadline: str,
    jobs: Sequence[str],
) -> Any:
    """Run the script. The first time in a process, and when Redis has another owner than before,
    the database is asked whether they belong together.

    Raises:
        OthersRedis: they do not.
    """
    from .. import installation  # it imports the models

    database = record._state.db or "default"
    owner = _owners.get((database, source), "")
    try:
        return broker.run(connection, "push", broker.rq_time(), deadline, owner, *jobs)
    except broker.Error as error:
        if not str(error).startswith("OWNER "):
            raise

    finding = installation.look(database, source)
    if finding.is_others_redis:
        raise OthersRedis(finding.problem)
    owner = _owners[database, source] = finding.in_redis.identity
    return broker.run(connection, "push", broker.rq_time(), deadline, owner, *jobs)


def _message(record: JobRecord, event: EventName) -> dict[str, Any]:
    """Return what the push script needs to know of a job."""
    # A job that was promoted has a run_at too.
    due = record.run_at if record.state == JobState.DELAYED else None

    message = {
        "id": str(record.pk),
        "q": record.queue,
        "prio": str(record.priority),
        "due": f"{due.timestamp():.6f}" if due else "",
        "gen": record.replays,
        "event": event.value,
        "hash": hash_of(record),
    }
    if due is not None and record.due is not None:
        # A delay is sent as its length, so that the clock of this machine does not matter.
        message["after"] = round(max(0.0, record.due - time.monotonic()), 6)
    if record.queue in conf.current().fair_queues:
        message["fair"] = True
    return message


def hash_of(record: JobRecord) -> dict[str, str]:
    """Return the hash of a new job; the script adds its status and when it was enqueued."""
    definition = registry.find(record.name)
    path = definition.path if definition else record.name

    fields = {
        job_hash.DATA: payload.to_json([path, None, [], record.data]),
        job_hash.QUEUE: record.queue,
        job_hash.CREATED_AT: broker.rq_time(record.created_at),
        job_hash.RQ_TIMEOUT: str(max(1, round(record.timeout))),
        job_hash.DESCRIPTION: record.name,
        job_hash.NAME: record.name,
        job_hash.VERSION: str(record.version),
        job_hash.CODE: code_of(record.name, record.version, tuple(record.data)),
        job_hash.PRIORITY: str(record.priority),
        job_hash.ATTEMPT: str(record.attempts),
        job_hash.MAX_ATTEMPTS: str(record.max_attempts),
        job_hash.TIMEOUT: str(record.timeout),
        job_hash.DATABASE: record._state.db or "default",
        job_hash.GENERATION: str(record.replays),
        job_hash.ORGANIZATION: record.organization_id,
        job_hash.USER: str(record.requested_by_id or ""),
        job_hash.CONTEXT: _context(record),
    }

    if "limits" in record.context:
        fields[job_hash.LIMITS] = payload.to_json(record.context["limits"])
    return fields


def _context(record: JobRecord) -> str:
    """Return what a run knows of its origin, and its batch, as JSON; '' for nothing."""
    batch = {"batch": str(record.batch_id)} if record.batch_id else {}
    context = {**record.context, **batch}
    return payload.to_json(context) if context else ""


def _slow_down(source: str, backlog: int) -> None:
    if backlog > conf.current().stream_max:
        logger.warning(
            "event stream of %s holds %d events: is the ledger running? slowing down",
            source,
            backlog,
        )
        time.sleep(OVERFULL_PAUSE)
