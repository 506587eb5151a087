"""Queues in Redis: count, pause, resume, empty; fair queues, limits and circuit breakers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import conf
from . import rq_queue
from .connection import Client, client, rq_time, run, source_client, source_of, sources


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Jobs of one queue in Redis. ``oldest_wait`` is in seconds, None when no job waits."""

    waiting: int
    active: int
    delayed: int
    blocked: int
    oldest_wait: float | None
    paused: bool


def counts(queue: str) -> QueueCounts:
    """Return the counts of a queue: one round trip."""
    return all_counts([queue])[queue]


def all_counts(queues: Iterable[str] | None = None) -> dict[str, QueueCounts]:
    """Return the counts of several queues (all by default): one round trip for each Redis."""
    wanted = set(conf.queues() if queues is None else queues)
    found: dict[str, QueueCounts] = {}
    for source, names in sources().items():
        chosen = [name for name in names if name in wanted]
        if chosen:
            found.update(counts_on(source_client(source, "call"), chosen))
    for name in wanted - found.keys():
        conf.queue(name)  # raises UnknownQueue
    return {name: found[name] for name in (conf.queues() if queues is None else queues)}


def counts_on(connection: Client, queues: Sequence[str]) -> dict[str, QueueCounts]:
    """Return the counts of queues on one Redis: one round trip. Raises redis-py's errors."""
    rows = run(connection, "counts", *queues)
    return dict(zip(queues, map(_counts, rows), strict=True))


def _counts(row: list[Any]) -> QueueCounts:
    waiting, active, delayed, blocked, oldest, paused = row
    return QueueCounts(
        waiting, active, delayed, blocked, float(oldest) if oldest else None, bool(paused)
    )


def pause(queue: str, note: str = "") -> None:
    """Let no worker claim from a queue until it is resumed. Running jobs continue."""
    run(client(queue), "pause", queue, json.dumps({"note": note, "at": rq_time()}))


def resume(queue: str) -> bool:
    """Let workers claim from a queue again. Returns whether it was paused."""
    return bool(run(client(queue), "resume", queue))


def empty(queue: str) -> int:
    """Cancel the waiting jobs of a queue; foreign ones are deleted, as RQ does. Return how many."""
    return rq_queue.empty(client(queue), queue)


def share_redis(queue: str, other: str) -> bool:
    """Return whether two queues are on the same Redis. Raises UnknownQueue."""
    return source_of(queue) == source_of(other)


def announce_fair(source: str) -> None:
    """Store in a Redis which of its queues are fair, by the current settings."""
    fair = conf.current().fair_queues
    flags = [part for queue in sources()[source] for part in (queue, "1" if queue in fair else "0")]
    run(source_client(source, "work"), "fair", *flags)


def set_limit(limit: str, most: int | None) -> None:
    """Set the number of a limit on every Redis; None returns to the numbers of the jobs."""
    for source in sources():
        run(source_client(source, "call"), "set_limit", limit, "" if most is None else most)


def switch_breaker(name: str, to: str) -> bool:
    """Open or close a circuit breaker by hand on every Redis. Returns whether one changed."""
    changed = [
        run(source_client(source, "call"), "breaker", f"b:{name}", to) for source in sources()
    ]
    return any(changed)
