"""Queues in Redis: push committed rows, count, pause, resume, cancel, promote."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from django.db.models import Count

from .. import conf, payload, signals
from ..definitions import registry
from ..states import EventName, JobState, Priority
from . import rq_queue
from .connection import (
    Client,
    Error,
    Unavailable,
    client,
    rq_time,
    run,
    source_client,
    source_of,
    sources,
    text,
)
from .rq_queue import LaneQueue

if TYPE_CHECKING:
    from ..models import JobRecord

__all__ = [
    "Canceled",
    "Counts",
    "LaneQueue",
    "all_counts",
    "cancel",
    "counts",
    "counts_on",
    "metrics",
    "pause",
    "promote",
    "push",
    "push_records",
    "resume",
]

logger = logging.getLogger("wellos_jobs")

PUSH_CHUNK = 250
"""How many jobs one push script takes: enough to save round trips, too few to hold Redis up."""

OVERFULL_PAUSE = 0.05
"""Seconds a push sleeps while the event stream is above STREAM_MAX, so that the ledger can catch up."""

Canceled = Literal["canceled", "stopping", "final"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What stands in Redis for one queue. ``oldest_wait`` is in seconds, None when nothing waits."""

    waiting: int
    active: int
    delayed: int
    blocked: int
    oldest_wait: float | None
    paused: bool


def push(
    records: Sequence[JobRecord], event: EventName = EventName.ENQUEUED, deadline: str = ""
) -> int:
    """Bring committed rows to Redis; one round trip for each ``PUSH_CHUNK`` jobs. Known ids are left alone.

    ``deadline`` is a moment on the Redis clock after which the push is refused: for callers that
    read the rows a while ago. Returns how many were new to Redis. Raises redis-py's errors.
    """
    pushed = 0
    by_source: dict[str, list[JobRecord]] = {}
    for record in records:
        by_source.setdefault(source_of(record.queue), []).append(record)
    for source, group in by_source.items():
        connection = source_client(source, "call")
        for start in range(0, len(group), PUSH_CHUNK):
            chunk = group[start : start + PUSH_CHUNK]
            wire = [payload.to_json(_wire(record, event)) for record in chunk]
            backlog, now, *codes = run(connection, "push", rq_time(), deadline, *wire)
            fresh = [record for record, code in zip(chunk, codes, strict=True) if code == 1]
            _announce(fresh, event, datetime.fromtimestamp(float(now), tz=UTC))
            _slow_down(source, int(backlog))
            pushed += len(fresh)
    return pushed


def push_records(records: Sequence[JobRecord], event: EventName | str = EventName.ENQUEUED) -> None:
    """Push committed rows; if Redis is away, say so in the log and leave them to the relay."""
    try:
        push(records, EventName(event))
    except Unavailable as error:
        logger.warning(
            "Redis is away (%s): %d committed jobs will be pushed by the relay", error, len(records)
        )
    except Error:  # as when the user of Redis lacks a right
        logger.exception(
            "Redis refuses: %d committed jobs will be pushed by the relay once it does not",
            len(records),
        )


def _wire(record: JobRecord, event: EventName) -> dict[str, Any]:
    definition = registry.find(record.name)
    path = definition.path if definition else record.name
    fields = {
        "data": payload.to_json([path, None, [], record.data]),
        "origin": record.queue,
        "created_at": rq_time(record.created_at),
        "timeout": str(max(1, round(record.timeout))),
        "description": record.name,
        "w:name": record.name,
        "w:prio": str(record.priority),
        "w:attempt": str(record.attempts),
        "w:max": str(record.max_attempts),
        "w:timeout": str(record.timeout),
        "w:db": record._state.db or "default",
        "w:gen": str(record.replays),
        "w:org": record.organization_id,
        "w:user": str(record.requested_by_id or ""),
        "w:ctx": payload.to_json(record.context) if record.context else "",
        **(
            {"w:limits": payload.to_json(record.context["limits"])}
            if "limits" in record.context
            else {}
        ),
    }
    due = (
        record.run_at if record.state == JobState.DELAYED else None
    )  # one that was promoted has a time, too
    return {
        "id": str(record.pk),
        "q": record.queue,
        "prio": str(record.priority),
        "due": f"{due.timestamp():.6f}" if due else "",
        "gen": record.replays,
        "event": event.value,
        **({"fair": True} if record.queue in conf.current().fair_queues else {}),
        "hash": fields,
    }


def _announce(records: Iterable[JobRecord], event: EventName, at: datetime) -> None:
    for record in records:
        signals.announce(
            event,
            job_id=str(record.pk),
            name=record.name,
            queue=record.queue,
            attempt=record.attempts,
            at=at,
        )


def _slow_down(source: str, backlog: int) -> None:
    if backlog > conf.current().stream_max:
        logger.warning(
            "event stream of %s holds %d events: is the ledger running? slowing down",
            source,
            backlog,
        )
        time.sleep(OVERFULL_PAUSE)


def counts(queue: str) -> Counts:
    """Return what stands in Redis for a queue: one round trip, nothing is changed."""
    return all_counts([queue])[queue]


def all_counts(queues: Iterable[str] | None = None) -> dict[str, Counts]:
    """Return the counts of several queues (all by default): one round trip for each Redis."""
    wanted = set(conf.queues() if queues is None else queues)
    found: dict[str, Counts] = {}
    for source, names in sources().items():
        chosen = [name for name in names if name in wanted]
        if chosen:
            found.update(counts_on(source_client(source, "call"), chosen))
    for name in wanted - found.keys():
        conf.queue(name)  # raises UnknownQueue with the near miss
    return {name: found[name] for name in (conf.queues() if queues is None else queues)}


def counts_on(connection: Client, queues: Sequence[str]) -> dict[str, Counts]:
    """Return the counts of queues that live on one Redis, in one round trip. Raises redis-py's errors."""
    rows = run(connection, "counts", *queues)
    return dict(zip(queues, map(_counts, rows), strict=True))


def _counts(row: list[Any]) -> Counts:
    waiting, active, delayed, blocked, oldest, paused = row
    return Counts(
        waiting, active, delayed, blocked, float(oldest) if oldest else None, bool(paused)
    )


def metrics(
    queues: Iterable[str] | None = None, database: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the numbers people watch, by queue: one Redis round trip a server and one query.

    waiting, active, delayed, blocked and oldest_wait (seconds or None) stand in Redis, completed
    and failed are counted in the kept rows; total is waiting + active + completed + failed +
    delayed.
    """
    from ..models import JobRecord

    live = all_counts(queues)
    rows = JobRecord.objects.using(database) if database else JobRecord.objects
    counted = [JobState.COMPLETED, JobState.FAILED, JobState.BLOCKED]
    kept = rows.filter(queue__in=list(live), state__in=counted)
    done = {
        (q, s): n for q, s, n in kept.order_by().values_list("queue", "state").annotate(Count("pk"))
    }
    found: dict[str, dict[str, Any]] = {}
    for name, now in live.items():
        row: dict[str, Any] = {"name": name, "waiting": now.waiting, "active": now.active}
        row["completed"] = done.get((name, JobState.COMPLETED), 0)
        row["failed"] = done.get((name, JobState.FAILED), 0)
        row["delayed"] = now.delayed
        row["total"] = sum(
            row[key] for key in ("waiting", "active", "completed", "failed", "delayed")
        )
        blocked = now.blocked + done.get(
            (name, JobState.BLOCKED), 0
        )  # ours wait in the rows, foreign ones in Redis
        found[name] = row | {
            "blocked": blocked,
            "oldest_wait": now.oldest_wait,
            "paused": now.paused,
        }
    return found


def pause(queue: str, note: str = "") -> None:
    """Let no worker claim from a queue until it is resumed. What runs, runs on."""
    run(client(queue), "pause", queue, json.dumps({"note": note, "at": rq_time()}))


def resume(queue: str) -> bool:
    """Let workers claim from a queue again; tell whether it was paused."""
    return bool(run(client(queue), "resume", queue))


def cancel(record: JobRecord, detail: dict[str, Any] | None = None) -> Canceled:
    """Cancel a job wherever it is; a running one is stopped through its supervisor.

    A job that Redis does not know gets a tombstone, so that a later push does nothing. Not one that
    has ended and that Redis has forgotten since: then the row says so, and keeps saying it.
    """
    if not record.is_foreign and JobState(record.state).is_final:
        return "canceled" if record.state == JobState.CANCELED else "final"
    answer = text(
        run(
            client(record.queue),
            "cancel",
            rq_time(),
            record.rq_id or str(record.pk),
            record.queue,
            "" if record.is_foreign else record.name,
            record._state.db or "default",
            str(record.replays),
            payload.to_json(detail) if detail else "",
        )
    )
    if answer == "canceled":
        _announce([record], EventName.CANCELED, datetime.now(UTC))
    return answer  # type: ignore[return-value]


def promote(record: JobRecord) -> bool:
    """Let a delayed job run now; tell whether it was delayed."""
    return bool(run(client(record.queue), "promote", rq_time(), record.rq_id or str(record.pk)))


def empty(queue: str) -> int:
    """Cancel every waiting job of a queue and return how many there were; foreign ones are deleted, as RQ does."""
    return rq_queue.empty(client(queue), queue)


def share_redis(queue: str, other: str) -> bool:
    """Tell whether two queues live on the same Redis. Raises UnknownQueue."""
    return source_of(queue) == source_of(other)


def relocate(record: JobRecord, queue: str, priority: Priority) -> bool:
    """Give a job another queue or priority; False when it has started or ended.

    A job that Redis does not know, as a blocked one, needs no more than its row.
    """
    return bool(run(client(record.queue), "relocate", str(record.pk), queue, int(priority)))


def announce_fair(source: str) -> None:
    """Tell a Redis which of its queues have fair turns, by the settings in force."""
    fair = conf.current().fair_queues
    flags = [part for queue in sources()[source] for part in (queue, "1" if queue in fair else "0")]
    run(source_client(source, "work"), "fair", *flags)


def set_limit(limit: str, most: int | None) -> None:
    """Set the number of a limit in force on every Redis; None goes back to what the jobs say."""
    for source in sources():
        run(source_client(source, "call"), "limit", limit, "" if most is None else most)


def switch_breaker(name: str, to: str) -> bool:
    """Open or close a circuit breaker by hand on every Redis; tell whether that changed one."""
    changed = [
        run(source_client(source, "call"), "breaker", f"b:{name}", to) for source in sources()
    ]
    return any(changed)
