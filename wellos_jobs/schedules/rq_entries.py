"""rq-scheduler's entries in Redis: what becomes of one that is due.

An entry is a job hash and a score in a sorted set. A repeated entry is a template: each of its runs
is a job of its own (``<id>-<due time in ms>``). One that cannot be read or planned is put aside and
shown; the others run.
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

from .. import broker, cron
from ..broker import keys
from ..broker.rq_queue import LaneQueue
from ..errors import UnknownSchedule

logger = logging.getLogger("wellos_jobs")

CHUNK = 200
DEPENDENT_GRACE = 30.0
"""Seconds after which an entry with dependencies is looked at again, should its clock have died in between."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a due entry: when it is due again (None: never), the id of this run, its new meta."""

    next_score: float | None
    run_id: str
    meta: dict[str, Any] | None = None


class Entries:
    """The entries of one Redis. ``clock`` returns Unix seconds."""

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

    def serve(self, keep: Callable[[], None]) -> float | None:
        """Enqueue what is due; return when the next entry is due (Unix seconds), or None when there is none.

        ``keep`` is called between entries: it may stop the pass by raising.
        """
        while True:
            due: Any = self.connection.zrangebyscore(
                self.key, "-inf", self.clock(), start=0, num=CHUNK, withscores=True
            )
            for entry, score in due:
                keep()
                self.serve_one(as_text(entry), float(score))
            if len(due) < CHUNK:
                break
        first: Any = self.connection.zrange(self.key, 0, 0, withscores=True)
        return float(first[0][1]) if first else None

    def serve_one(self, entry: str, score: float) -> None:
        """Enqueue an entry that was read with this score, and set it to its next time."""
        try:
            with broker.refusals_as_away():
                job = self.job_class.fetch(
                    entry, connection=self.connection, serializer=JSONSerializer
                )
            if broker.source_of(job.origin) != self.source:
                raise ValueError(f"queue {job.origin!r} lives on another Redis")
            plan = plan_of(job, score, self.clock())
        except NoSuchJobError:
            self.connection.zrem(self.key, entry)
            logger.warning(
                "scheduler: the job of entry %s was deleted, the entry is dropped", entry
            )
        except broker.Unavailable:
            raise
        except Exception as error:  # whatever stands in a stranger's hash must not stop the others
            self._put_aside(entry, error)
        else:
            if job._dependency_ids:
                self._hand_over(job, score)
            else:
                self._rearm(job, score, plan)

    def _rearm(self, job: Job, score: float, plan: Plan) -> None:
        broker.run(
            self.connection,
            "rearm",
            broker.rq_time(),
            self.key,
            job.id,
            repr(score),
            "" if plan.next_score is None else repr(plan.next_score),
            plan.run_id,
            "" if plan.meta is None else json.dumps(plan.meta),
            job.origin,
        )

    def _hand_over(self, job: Job, score: float) -> None:
        """Let RQ see to the dependencies of a job. Should this process die in between, the next one looks again."""
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
        logger.error("scheduler: entry %s cannot run and is put aside: %s", entry, reason)
        with self.connection.pipeline() as pipeline:
            pipeline.hset(
                keys.BROKEN_ENTRIES, entry, json.dumps({"reason": reason, "at": broker.rq_time()})
            )
            pipeline.zrem(self.key, entry)
            pipeline.execute()

    def broken(self) -> dict[str, str]:
        """Return the entries that were put aside, with the reason."""
        found: Any = self.connection.hgetall(keys.BROKEN_ENTRIES)
        return {as_text(entry): json.loads(text)["reason"] for entry, text in found.items()}

    def mend(self, entry: str, when: float) -> None:
        """Put an entry back that was put aside, to run at ``when`` (Unix seconds).

        Raises:
            UnknownSchedule: it was not put aside.
        """
        if not self.connection.hexists(keys.BROKEN_ENTRIES, entry):
            raise UnknownSchedule(f"No entry {entry!r} was put aside")
        with self.connection.pipeline() as pipeline:
            pipeline.zadd(self.key, {entry: when})
            pipeline.hdel(keys.BROKEN_ENTRIES, entry)
            pipeline.execute()


# --- when an entry runs ---------------------------------------------------------------------------


def plan_of(job: Job, score: float, now: float) -> Plan:
    """Return what becomes of an entry that is due since ``score``. Runs missed meanwhile are made up for by one.

    Raises:
        ValueError: its meta cannot be meant.
        CronError: its line or zone does not exist.
    """
    meta = job.meta
    if not isinstance(meta, dict) or "unserialized" in meta:
        raise ValueError("its meta is not a JSON object")
    if "interval" not in meta and "cron_string" not in meta:
        return Plan(None, "")
    run_id = f"{job.id}-{round(score * 1000)}"
    if "repeat" in meta:
        meta = {**meta, "repeat": int(meta["repeat"]) - 1}
        if meta["repeat"] <= 0:
            return Plan(None, run_id, meta)
    if "interval" in meta:
        return Plan(_next_on_grid(meta, score, now), run_id, meta)
    return Plan(
        first_after(meta["cron_string"], meta.get("timezone") or "UTC", max(now, score)),
        run_id,
        meta,
    )


def first_after(line: str, zone: str, now: float) -> float:
    """Return the first run of a cron line after a time (Unix seconds).

    Raises:
        CronError: the line or the zone does not exist.
        ValueError: it never runs again.
    """
    runs = cron.next_runs(line, zone, datetime.fromtimestamp(now, tz=UTC), 1)
    if not runs:
        raise ValueError(f"{line!r} never runs again")
    return runs[0].timestamp()


def seconds_of(interval: Any) -> float:
    """Return the seconds of an interval.

    Raises:
        ValueError: it is not above 0.
    """
    seconds = float(interval.total_seconds() if hasattr(interval, "total_seconds") else interval)
    if not 0 < seconds < math.inf:
        raise ValueError(f"interval is {interval!r}: it must be above 0 seconds")
    return seconds


def _next_on_grid(meta: dict[str, Any], score: float, now: float) -> float:
    """Return the first time after now that is a whole number of intervals from the anchor: no drift."""
    interval = seconds_of(meta["interval"])
    anchor = float(meta.get("anchor", score))
    return anchor + (floor((max(now, score) - anchor) / interval + 1e-9) + 1) * interval
