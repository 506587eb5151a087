"""The clock: rq-scheduler's Scheduler, hardened, with the calendar of the database beside its own entries.

Set ``RQ = {"SCHEDULER_CLASS": "wellos_jobs.scheduler.Scheduler"}``, so that ``django_rq.get_scheduler()`` gives it too.
Entries made through rq-scheduler's API live in Redis as they always did. Each run of a repeated entry is a job of its
own (``<id>-<due time in ms>``); the entry is only its template.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any

import django_rq
from django.utils import timezone
from django_rq.queues import DjangoScheduler
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import as_text

from . import alarm, conf, cron, keys, redis
from .clock import Clock
from .errors import UnknownSchedule

logger = logging.getLogger("wellos_jobs")

CHUNK = 200
SCHEDULER_SET = f"{keys.PREFIX}:scheduler:scheduled_jobs"


@dataclass(frozen=True)
class Plan:
    """What becomes of a due entry: when it is due again (None: never), the id of this run, its new meta."""

    next_score: float | None
    run_id: str
    meta: dict[str, Any] | None = None


class Scheduler(DjangoScheduler):
    """rq-scheduler's interface on top of zones, exact times and scripts that cannot be torn apart.

    ``clock`` returns Unix seconds; tests give another one.
    """

    redis_scheduler_namespace_prefix = f"{keys.PREFIX}:scheduler_instance:"
    scheduler_key = f"{keys.PREFIX}:scheduler"
    scheduler_lock_key = keys.CLOCK
    scheduled_jobs_key = SCHEDULER_SET

    def __init__(self, *args: Any, clock: Callable[[], float] = time.time, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = clock

    # --- putting entries in -------------------------------------------------------------------------

    def enqueue_at(self, scheduled_time: datetime, func: Any, *args: Any, **kwargs: Any) -> Job:
        """Run ``func`` once at a time, exact to the microsecond.

        Raises:
            ValueError: the time is naive.
        """
        job: Job = super().enqueue_at(_aware(scheduled_time), func, *args, **kwargs)
        self._set_time(job, _aware(scheduled_time).timestamp())
        return job

    def enqueue_in(self, time_delta: timedelta, func: Any, *args: Any, **kwargs: Any) -> Job:
        """Run ``func`` once after a while."""
        due = datetime.fromtimestamp(self.clock(), tz=UTC) + time_delta
        return self.enqueue_at(due, func, *args, **kwargs)

    def schedule(
        self,
        scheduled_time: datetime,
        func: Any,
        *args: Any,
        interval: float | timedelta | None = None,
        meta: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Job:
        """Run ``func`` at a time and then every ``interval`` seconds, counted from the first time: no drift.

        Raises:
            ValueError: the time is naive, or the interval is not above 0.
        """
        start = _aware(scheduled_time)
        details = dict(meta or {})
        seconds = None if interval is None else _seconds(interval)
        if seconds is not None:
            details["anchor"] = start.timestamp()
        job: Job = super().schedule(
            start, func, *args, interval=None if seconds is None else max(1, floor(seconds)), meta=details, **kwargs
        )
        if seconds is not None:
            job.meta["interval"] = seconds
            job.save_meta()  # type: ignore[no-untyped-call]
        self._set_time(job, start.timestamp())
        return job

    def cron(
        self,
        cron_string: str,
        func: Any,
        args: Any = None,
        kwargs: Any = None,
        repeat: int | None = None,
        queue_name: str | None = None,
        result_ttl: int = -1,
        *more: Any,
        timezone: str | None = None,
        use_local_timezone: bool = False,
        meta: dict[str, Any] | None = None,
        at_front: bool = False,
        **options: Any,
    ) -> Job:
        """Run ``func`` by a cron line in a zone: ``timezone``, the project's with ``use_local_timezone``, else UTC.

        Raises:
            CronError: the line or the zone cannot be meant.
            TypeError: an argument that rq-scheduler takes by position here was given so; name it.
        """
        if more:
            raise TypeError(f"cron: give {', '.join(map(repr, more))} by name")
        zone = timezone or (str(conf.django_setting("TIME_ZONE")) if use_local_timezone else "UTC")
        first = _first_after(cron_string, zone, self.clock())
        details = {**(meta or {}), "timezone": zone, "cron_string": cron_string}
        if repeat is not None:
            details["repeat"] = int(repeat)
        job = self._create_job(
            func, args, kwargs, commit=False, queue_name=queue_name, result_ttl=result_ttl, meta=details, **options
        )
        job.enqueue_at_front = at_front
        job.save()
        self._set_time(job, first)
        return job

    def change_execution_time(self, job: Job, date_time: datetime) -> None:
        """Give an entry another time.

        Raises:
            ValueError: the time is naive, or the entry is not (or no longer) there.
        """
        moved = self.connection.zadd(self.scheduled_jobs_key, {job.id: _aware(date_time).timestamp()}, xx=True, ch=True)
        if not moved and self.connection.zscore(self.scheduled_jobs_key, job.id) is None:
            raise ValueError("Job not in scheduled jobs queue")
        alarm.ring()

    def _create_job(self, func: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Job:
        """Make the entry's job with the serializer and the timeout of its queue.

        Raises:
            UnknownQueue: ``RQ_QUEUES`` does not name the queue.
        """
        queue_name = options.pop("queue_name", None) or self.queue_name
        config = conf.queue(queue_name)
        commit = options.pop("commit", True)
        if options.get("timeout") is None:
            options["timeout"] = config.get("DEFAULT_TIMEOUT")
        job: Job = self.job_class.create(
            func,
            args=args or (),
            kwargs=kwargs or {},
            connection=self.connection,
            serializer=JSONSerializer,
            status=JobStatus.SCHEDULED,
            origin=queue_name,
            **options,
        )
        if commit:
            job.save()
        return job

    def _set_time(self, job: Job, timestamp: float) -> None:
        self.connection.zadd(self.scheduled_jobs_key, {job.id: timestamp})
        alarm.ring()

    # --- taking them out ----------------------------------------------------------------------------

    def serve(self) -> float | None:
        """Enqueue what is due; return when the next entry is due (Unix seconds), or None when there is none.

        An entry that cannot be read or planned is put aside and shown; the others run.
        """
        while True:
            due: Any = self.connection.zrangebyscore(
                self.scheduled_jobs_key, "-inf", self.clock(), start=0, num=CHUNK, withscores=True
            )
            for entry, score in due:
                self._serve_entry(as_text(entry), float(score))
            if len(due) < CHUNK:
                break
        first: Any = self.connection.zrange(self.scheduled_jobs_key, 0, 0, withscores=True)
        return float(first[0][1]) if first else None

    def enqueue_jobs(self) -> list[Job]:
        """rq-scheduler's name for one pass; returns nothing that was not stored already."""
        self.serve()
        return []

    def _serve_entry(self, entry: str, score: float) -> None:
        try:
            job = self.job_class.fetch(entry, connection=self.connection, serializer=JSONSerializer)
            conf.queue(job.origin)
            plan = self._plan(job, score)
        except NoSuchJobError:
            self.connection.zrem(self.scheduled_jobs_key, entry)
            logger.warning("scheduler: the job of entry %s was deleted, the entry is dropped", entry)
            return
        except redis.Unavailable:
            raise
        except Exception as error:  # whatever stands in a stranger's hash must not stop the others
            self._put_aside(entry, error)
            return
        redis.run(
            self.connection,
            "rearm",
            redis.rq_time(),
            self.scheduled_jobs_key,
            entry,
            repr(score),
            "" if plan.next_score is None else repr(plan.next_score),
            plan.run_id,
            "" if plan.meta is None else json.dumps(plan.meta),
            job.origin,
        )

    def _plan(self, job: Job, score: float) -> Plan:
        meta, now = job.meta, self.clock()
        if "unserialized" in meta:
            raise ValueError("its meta is not JSON")
        if "interval" not in meta and "cron_string" not in meta:
            return Plan(None, "")
        run_id = f"{job.id}-{round(score * 1000)}"
        if "repeat" in meta:
            meta = {**meta, "repeat": int(meta["repeat"]) - 1}
            if meta["repeat"] <= 0:
                return Plan(None, run_id, meta)
        if "interval" in meta:
            return Plan(_next_interval(meta, score, now), run_id, meta)
        zone = meta.get("timezone") or "UTC"
        return Plan(_first_after(meta["cron_string"], zone, now), run_id, meta)

    def _put_aside(self, entry: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        logger.error("scheduler: entry %s cannot run and is put aside: %s", entry, reason)
        with self.connection.pipeline() as pipeline:
            pipeline.hset(keys.BROKEN_ENTRIES, entry, json.dumps({"reason": reason, "at": redis.rq_time()}))
            pipeline.zrem(self.scheduled_jobs_key, entry)
            pipeline.execute()

    def broken_entries(self) -> dict[str, str]:
        """Return the entries that were put aside, with the reason."""
        found: Any = self.connection.hgetall(keys.BROKEN_ENTRIES)
        return {as_text(entry): json.loads(text)["reason"] for entry, text in found.items()}

    def mend(self, entry: str, when: datetime) -> None:
        """Put an entry back that was put aside.

        Raises:
            UnknownSchedule: it was not put aside.
        """
        if not self.connection.hdel(keys.BROKEN_ENTRIES, entry):
            raise UnknownSchedule(f"No entry {entry!r} was put aside")
        self.connection.zadd(self.scheduled_jobs_key, {entry: _aware(when).timestamp()})
        alarm.ring()

    # --- the loop -----------------------------------------------------------------------------------

    def run(self, burst: bool = False) -> None:
        """Serve entries and schedules until SIGTERM; with ``burst`` once."""
        Clock(redis.source_of(self.queue_name), self).run(burst=burst)


def scheduler_of(source: str) -> Scheduler:
    """Return the project's scheduler for a Redis if it is one of ours, else ours: the clock needs what others lack."""
    connection = redis.source_client(source, "work")
    made = django_rq.get_scheduler(source, connection=connection)
    if isinstance(made, Scheduler):
        return made
    return Scheduler(queue_name=source, queue=django_rq.get_queue(source), connection=connection)


def _aware(moment: datetime) -> datetime:
    if timezone.is_naive(moment):
        raise ValueError(f"{moment!r} is a naive datetime: give it a time zone")
    return moment


def _seconds(interval: float | timedelta) -> float:
    seconds = interval.total_seconds() if isinstance(interval, timedelta) else float(interval)
    if seconds <= 0:
        raise ValueError(f"interval is {interval!r}: it must be above 0 seconds")
    return seconds


def _first_after(line: str, zone: str, now: float) -> float:
    runs = cron.next_runs(line, zone, datetime.fromtimestamp(now, tz=UTC), 1)
    if not runs:
        raise ValueError(f"{line!r} never runs again")
    return runs[0].timestamp()


def _next_interval(meta: dict[str, Any], score: float, now: float) -> float:
    """Return the first time after now on the entry's grid; runs missed meanwhile are made up for by one."""
    interval = _seconds(float(meta["interval"]))
    anchor = float(meta.get("anchor", score))
    return anchor + (floor((max(now, score) - anchor) / interval + 1e-9) + 1) * interval
