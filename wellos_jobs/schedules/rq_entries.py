"""rq-scheduler's entries in Redis: enqueue due ones and set their next time.

An entry is a job hash and a score in a sorted set. A repeated entry is a template: each run is a
separate job (``<id>-<due time in ms>``). An entry that cannot be read or planned is set aside and
shown in the admin; the others run.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor
from typing import Any

import django_rq
import redis as redis_py
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import as_text

from .. import broker, conf, cron
from ..broker import keys
from ..broker.rq_fetch import fetch
from ..broker.rq_queue import LaneQueue
from ..errors import UnknownSchedule

logger = logging.getLogger("wellos_jobs")

CHUNK = 200
DEPENDENT_GRACE = 30.0
"""Seconds after which an entry with dependencies is tried again if its clock died meanwhile."""


@dataclass(frozen=True, slots=True)
class DueEntry:
    """A due entry: when it is due again (None: never), the id of this run, its new meta."""

    next_score: float | None
    run_id: str
    meta: dict[str, Any] | None = None


class RqEntries:
    """The rq-scheduler entries of one Redis. ``clock`` returns Unix seconds."""

    def __init__(
        self,
        connection: redis_py.Redis,
        source: str,
        key: str,
        job_class: type[Job],
        clock: Callable[[], float],
    ) -> None:
        self.connection = connection
        self.source = source
        self.key = key
        self.job_class = job_class
        self.clock = clock

    def serve(self, renew: Callable[[], None]) -> float | None:
        """Enqueue due entries; return when the next is due (Unix seconds), None if there is none.

        ``renew`` is called between entries: it may stop the pass by raising.
        """
        while True:
            due: Any = self.connection.zrangebyscore(
                self.key, "-inf", self.clock(), start=0, num=CHUNK, withscores=True
            )
            for entry, score in due:
                renew()
                self.serve_one(as_text(entry), float(score))
            if len(due) < CHUNK:
                break
        first: Any = self.connection.zrange(self.key, 0, 0, withscores=True)
        return float(first[0][1]) if first else None

    def serve_one(self, entry: str, score: float) -> None:
        """Enqueue an entry that was read with this score, and set its next time."""
        try:
            job = self._fetch(entry)
            due = due_entry(job, score, self.clock())
        except NoSuchJobError:
            self.connection.zrem(self.key, entry)
            logger.warning(
                "scheduler: the job of entry %s was deleted: the entry is removed", entry
            )
        except broker.Unavailable:
            raise
        except Exception as error:  # an unreadable hash must not stop the others
            self._put_aside(entry, error)
        else:
            if job._dependency_ids:
                self._hand_over(job, score)
            else:
                self._rearm(job, score, due)

    def _fetch(self, entry: str) -> Job:
        with broker.refusals_as_unavailable():
            job: Job = fetch(self.job_class, entry, self.connection, JSONSerializer)
        if broker.source_of(job.origin) != self.source:
            raise ValueError(f"queue {job.origin!r} is on another Redis")
        return job

    def _rearm(self, job: Job, score: float, due: DueEntry) -> None:
        broker.run(
            self.connection,
            "rearm",
            broker.rq_time(),
            self.key,
            job.id,
            repr(score),
            "" if due.next_score is None else repr(due.next_score),
            due.run_id,
            "" if due.meta is None else json.dumps(due.meta),
            job.origin,
        )

    def _hand_over(self, job: Job, score: float) -> None:
        """Enqueue a job with dependencies through RQ. If this process dies, it is tried again."""
        if not broker.run(
            self.connection, "postpone", self.key, job.id, repr(score), DEPENDENT_GRACE
        ):
            return

        if job.get_status(refresh=False) == JobStatus.SCHEDULED:
            queue = django_rq.get_queue(
                job.origin,
                connection=self.connection,
                queue_class=LaneQueue,
                serializer=JSONSerializer,
            )
            queue.enqueue_job(job, at_front=bool(job.enqueue_at_front))
        self.connection.zrem(self.key, job.id)

    # --- what cannot run --------------------------------------------------------------------------

    def _put_aside(self, entry: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        logger.error("scheduler: entry %s cannot run and is set aside: %s", entry, reason)
        with self.connection.pipeline() as pipeline:
            pipeline.hset(
                keys.BROKEN_ENTRIES, entry, json.dumps({"reason": reason, "at": broker.rq_time()})
            )
            pipeline.zrem(self.key, entry)
            pipeline.execute()

    def broken(self) -> dict[str, str]:
        """Return the entries that were set aside, with their errors."""
        found: Any = self.connection.hgetall(keys.BROKEN_ENTRIES)
        return {as_text(entry): json.loads(text)["reason"] for entry, text in found.items()}

    def restore(self, entry: str, when: float) -> None:
        """Restore an entry that was set aside, to run at ``when`` (Unix seconds).

        Raises:
            UnknownSchedule: it was not set aside.
        """
        if not self.connection.hexists(keys.BROKEN_ENTRIES, entry):
            raise UnknownSchedule(f"No entry {entry!r} was set aside")
        with self.connection.pipeline() as pipeline:
            pipeline.zadd(self.key, {entry: when})
            pipeline.hdel(keys.BROKEN_ENTRIES, entry)
            pipeline.execute()


# --- when an entry runs ---------------------------------------------------------------------------


def due_entry(job: Job, score: float, now: float) -> DueEntry:
    """Plan an entry that is due since ``score``. It runs once for all runs missed meanwhile.

    Raises:
        ValueError: its meta is invalid.
        CronError: its cron line or zone is invalid.
    """
    meta = job.meta
    if not isinstance(meta, dict) or "unserialized" in meta:
        raise ValueError("its meta is not a JSON object")
    if "interval" not in meta and "cron_string" not in meta:
        return DueEntry(None, "")

    run_id = f"{job.id}-{round(score * 1000)}"
    if "repeat" in meta:
        meta = {**meta, "repeat": int(meta["repeat"]) - 1}
        if meta["repeat"] <= 0:
            return DueEntry(None, run_id, meta)

    if "interval" in meta:
        return DueEntry(_next_on_grid(meta, score, now), run_id, meta)
    return DueEntry(
        first_after(meta["cron_string"], meta.get("timezone") or "UTC", max(now, score)),
        run_id,
        meta,
    )


def first_after(line: str, zone: str, now: float) -> float:
    """Return the first run of a cron line after a time (Unix seconds).

    Raises:
        CronError: the cron line or the zone is invalid.
        ValueError: it never runs again, or runs more often than ``SHORTEST_INTERVAL`` allows.
    """
    gap = cron.shortest_gap(line).total_seconds()
    _check_gap(gap, f"{line!r} runs every {gap:g} s")
    runs = cron.next_runs(line, zone, datetime.fromtimestamp(now, tz=UTC), 1)
    if not runs:
        raise ValueError(f"{line!r} never runs again")
    return runs[0].timestamp()


def seconds_of(interval: Any) -> float:
    """Return the seconds of an interval.

    Raises:
        ValueError: it is not above 0, or shorter than ``SHORTEST_INTERVAL``.
    """
    seconds = float(interval.total_seconds() if hasattr(interval, "total_seconds") else interval)
    if not 0 < seconds < math.inf:
        raise ValueError(f"interval is {interval!r}: it must be above 0 seconds")
    _check_gap(seconds, f"interval is {interval!r}")
    return seconds


def _check_gap(seconds: float, described: str) -> None:
    shortest = conf.current().shortest_interval
    if seconds < shortest:
        raise ValueError(
            f"{described}, which is below {shortest:g} s: choose a longer interval, or lower "
            "WELLOS_JOBS['SHORTEST_INTERVAL']"
        )


def _next_on_grid(meta: dict[str, Any], score: float, now: float) -> float:
    """Return the first time after now that is a whole number of intervals from the anchor."""
    interval = seconds_of(meta["interval"])
    anchor = float(meta.get("anchor", score))
    return anchor + (floor((max(now, score) - anchor) / interval + 1e-9) + 1) * interval
