"""Health probes: queries of Redis and the databases with a deadline, even if the server hangs.

Each runs in its own thread, and only once at a time: while one hangs, further callers wait for the
same answer. So concurrent probes of an unresponsive server share one thread.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import Count, Min, Q
from django.utils import timezone

from .. import broker
from ..broker import keys, queues
from ..broker.queues import QueueCounts
from ..database import has_job_table
from ..models import JobRecord, Schedule
from ..states import JobState

Key = tuple[str, ...]

UNPUSHED_AFTER = timedelta(seconds=30)
"""Age of a row that should have reached Redis: a push takes milliseconds, the relay seconds."""
MOST_UNPUSHED = 100


class NoAnswer(Exception):
    """The server has not answered in time."""


class _Probe:
    """A query that runs in a thread."""

    def __init__(self, question: Callable[[], Any]) -> None:
        self.question = question
        self.since = time.monotonic()
        self.finished = threading.Event()
        self.answer: Any = None

    def run(self) -> None:
        try:
            self.answer = self.question()
        except Exception as error:
            self.answer = error
        finally:
            self.finished.set()


_probes: dict[Key, _Probe] = {}
_lock = threading.Lock()


def _forget_probes() -> None:
    """Reset after a fork: the threads of the parent do not exist in the child."""
    global _lock
    _lock = threading.Lock()
    _probes.clear()


os.register_at_fork(after_in_child=_forget_probes)


def ask(questions: Mapping[Key, Callable[[], Any]], timeout: float) -> dict[Key, Any]:
    """Run all queries concurrently; return each answer, the error it raised, or ``NoAnswer``.

    It takes at most ``timeout`` seconds. Queries with the same key share one answer.
    """
    probes = {key: _start(key, question) for key, question in questions.items()}
    deadline = time.monotonic() + timeout
    return {key: _wait(probe, deadline) for key, probe in probes.items()}


def _start(key: Key, question: Callable[[], Any]) -> _Probe:
    with _lock:
        probe = _probes.get(key)
        if probe is None or probe.finished.is_set():
            probe = _probes[key] = _Probe(question)
            threading.Thread(
                target=probe.run, name=f"wellos_jobs probe {' '.join(key)}", daemon=True
            ).start()
        return probe


def _wait(probe: _Probe, deadline: float) -> Any:
    if not probe.finished.wait(max(0.0, deadline - time.monotonic())):
        return NoAnswer(f"no answer for {time.monotonic() - probe.since:.1f} s")
    return probe.answer


# --- a database -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DatabaseFacts:
    """The state of one database. ``unpushed`` are its oldest rows that Redis may not know."""

    seconds: float
    has_tables: bool
    unpushed: Sequence[tuple[uuid.UUID, str, datetime]] = ()
    schedules: int = 0
    broken_schedules: int = 0
    next_run_at: datetime | None = None


def database_facts(alias: str) -> DatabaseFacts:
    """Query a database on this thread's own connection, and close it."""
    start = time.monotonic()
    try:
        has_tables = has_job_table(alias)
        seconds = time.monotonic() - start
        if not has_tables:
            return DatabaseFacts(seconds, has_tables)

        works = Q(broken="")
        sums = Schedule.objects.using(alias).filter(enabled=True).order_by()
        found = sums.aggregate(
            schedules=Count("pk", filter=works),
            broken_schedules=Count("pk", filter=~works),
            next_run_at=Min("next_run_at", filter=works),
        )
        return DatabaseFacts(seconds, has_tables, unpushed=_unpushed(alias), **found)
    finally:
        connections[alias].close()


def _unpushed(alias: str) -> list[tuple[uuid.UUID, str, datetime]]:
    rows = JobRecord.objects.using(alias).filter(
        state__in=[JobState.WAITING, JobState.DELAYED],
        enqueued_at__isnull=True,
        rq_id__isnull=True,
        created_at__lt=timezone.now() - UNPUSHED_AFTER,
    )
    return list(
        rows.order_by("created_at").values_list("pk", "queue", "created_at")[:MOST_UNPUSHED]
    )


# --- a Redis --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RedisFacts:
    """The state of one Redis. Times are in seconds; None is what this Redis user may not read.

    ``info`` is the reply to INFO, ``snapshots`` the ``save`` setting, ``workers`` the number of
    live workers of each queue.
    """

    seconds: float
    info: Mapping[str, Any] = field(default_factory=dict)
    snapshots: str | None = None
    events: int | None = None
    lag: float | None = None
    has_leader: bool = False
    beat_age: float | None = None
    has_clock: bool = False
    entries: int = 0
    workers: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, QueueCounts] = field(default_factory=dict)


def redis_facts(source: str, names: Sequence[str]) -> RedisFacts:
    """Query a Redis in three round trips.

    What this Redis user may not read is None; other errors of redis-py are raised.
    """
    connection = broker.source_client(source, "probe")
    start = time.monotonic()
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.info("all")
        pipeline.config_get("save")
        pipeline.xlen(keys.EVENTS)
        pipeline.xrange(keys.EVENTS, count=1)
        pipeline.mget(keys.LEADER, keys.BEAT, keys.CLOCK)
        pipeline.zcard(keys.ENTRIES)
        for name in names:
            pipeline.smembers(keys.workers_of(name))
        replies = pipeline.execute(raise_on_error=False)
    seconds = time.monotonic() - start
    if isinstance(replies[0], Exception):
        raise replies[0]

    (whole, micro), info, save, events, first, singles, entries, *served = map(_or_none, replies)
    now = whole + micro / 1_000_000
    leader, beat, clock = singles or (None, None, None)

    return RedisFacts(
        seconds=seconds,
        info=info or {},
        snapshots=None if save is None else save.get("save", ""),
        events=events,
        lag=None if first is None else _age(first, now),
        has_leader=leader is not None,
        beat_age=now - float(beat) if beat else None,
        has_clock=clock is not None,
        entries=entries or 0,
        workers=_alive(connection, dict(zip(names, served, strict=True))),
        counts=_counts(connection, names),
    )


def known_to_redis(source: str, job_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Return those of the jobs that exist in a Redis."""
    with broker.source_client(source, "probe").pipeline(transaction=False) as pipeline:
        for job_id in job_ids:
            pipeline.exists(keys.job(job_id))
        return {job_id for job_id, found in zip(job_ids, pipeline.execute(), strict=True) if found}


def _counts(connection: broker.Client, names: Sequence[str]) -> dict[str, QueueCounts]:
    try:
        return queues.counts_on(connection, names)
    except broker.Unavailable:
        raise
    except broker.Error:  # this user may not run scripts
        return {}


def _or_none(reply: Any) -> Any:
    return None if isinstance(reply, Exception) else reply


def _age(first: list[tuple[bytes, Any]], now: float) -> float:
    """Return the seconds that the oldest event has waited; 0 when none waits."""
    return max(0.0, now - int(first[0][0].split(b"-")[0]) / 1000) if first else 0.0


def _alive(connection: broker.Client, served: Mapping[str, Any]) -> dict[str, int]:
    """Count the workers of each queue whose hash exists; the hashes of dead ones have expired."""
    workers = sorted({worker for members in served.values() for worker in members or ()})
    with connection.pipeline(transaction=False) as pipeline:
        for worker in workers:
            pipeline.exists(worker)
        there = {worker for worker, found in zip(workers, pipeline.execute(), strict=True) if found}
    return {queue: len(there & (members or set())) for queue, members in served.items()}
