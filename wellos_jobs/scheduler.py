"""Scheduler: rq-scheduler's interface with time zones, exact times and atomic updates.

Set ``RQ = {"SCHEDULER_CLASS": "wellos_jobs.scheduler.Scheduler"}``, so that
``django_rq.get_scheduler()`` returns it. Entries made through rq-scheduler's API live in Redis as
before; ``schedules.rq_entries`` runs them. Its ``run`` also serves the schedules of the databases.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import django_rq
from django.utils import timezone
from django_rq.queues import DjangoScheduler
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import as_text

from . import broker, conf
from .broker import keys, scheduler_wakeup
from .broker.rq_fetch import fetch
from .schedules.clock import LOCK_MS, Clock
from .schedules.rq_entries import RqEntries, first_after, seconds_of

SCHEDULER_SET = keys.ENTRIES

_OPTIONS = {
    "timeout": "timeout",
    "job_id": "id",
    "job_ttl": "ttl",
    "job_result_ttl": "result_ttl",
    "job_description": "description",
    "depends_on": "depends_on",
    "meta": "meta",
    "queue_name": "queue_name",
    "on_success": "on_success",
    "on_failure": "on_failure",
    "at_front": "at_front",
}
"""Keywords of ``enqueue_at`` that are not passed to the function, and their names elsewhere."""


class Scheduler(DjangoScheduler):
    """A drop-in replacement for rq-scheduler's ``Scheduler``.

    ``clock`` returns Unix seconds, by default those of Redis; tests pass another one.
    """

    redis_scheduler_namespace_prefix = f"{keys.PREFIX}:scheduler_instance:"
    scheduler_key = f"{keys.PREFIX}:scheduler"
    scheduler_lock_key = keys.CLOCK
    scheduled_jobs_key = SCHEDULER_SET

    def __init__(self, *args: Any, clock: Callable[[], float] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = clock or broker.RedisClock(self.connection)
        self.token = uuid.uuid4().hex
        source = broker.source_of(self.queue_name)
        self.entries = RqEntries(
            self.connection, source, self.scheduled_jobs_key, self.job_class, self.clock
        )

    # --- creating entries -------------------------------------------------------------------------

    def enqueue_at(self, scheduled_time: datetime, func: Any, *args: Any, **kwargs: Any) -> Job:
        """Run ``func`` once at a time, exact to the microsecond.

        Raises:
            ValueError: the time is naive.
            UnknownQueue: ``RQ_QUEUES`` does not name the queue.
        """
        options = {
            name: kwargs.pop(option) for option, name in _OPTIONS.items() if option in kwargs
        }
        return self._put(_aware(scheduled_time).timestamp(), func, args, kwargs, options)

    def enqueue_in(self, time_delta: timedelta, func: Any, *args: Any, **kwargs: Any) -> Job:
        """Run ``func`` once after a delay."""
        due = datetime.fromtimestamp(self.clock(), tz=UTC) + time_delta
        return self.enqueue_at(due, func, *args, **kwargs)

    def schedule(
        self,
        scheduled_time: datetime,
        func: Any,
        args: Any = None,
        kwargs: Any = None,
        interval: float | timedelta | None = None,
        repeat: int | None = None,
        **options: Any,
    ) -> Job:
        """Run ``func`` at a time and then every ``interval`` seconds.

        Intervals count from the first time, without drift. ``repeat`` limits the number of runs.
        Other options are those of rq-scheduler.

        Raises:
            ValueError: the time is naive, the interval is shorter than ``SHORTEST_INTERVAL``, or
                there is a repeat without an interval.
        """
        start = _aware(scheduled_time).timestamp()
        if interval is None:
            if repeat:
                raise ValueError("Can't repeat a job without interval argument")
            return self._put(start, func, args, kwargs, options)
        timing = {"interval": seconds_of(interval), "anchor": start}
        return self._put_repeated(start, func, args, kwargs, options, repeat, timing)

    def cron(
        self,
        cron_string: str,
        func: Any,
        args: Any = None,
        kwargs: Any = None,
        repeat: int | None = None,
        queue_name: str | None = None,
        result_ttl: int | None = -1,
        *,
        timezone: str | ZoneInfo | None = None,
        use_local_timezone: bool = False,
        **options: Any,
    ) -> Job:
        """Run ``func`` by a cron line in ``timezone``.

        The default zone is UTC, or the project's with ``use_local_timezone``. Other options are
        those of rq-scheduler.

        Raises:
            CronError: the cron line or the zone is invalid.
        """
        zone = str(timezone or (conf.django_setting("TIME_ZONE") if use_local_timezone else "UTC"))
        first = first_after(cron_string, zone, self.clock())
        options |= {"queue_name": queue_name, "result_ttl": result_ttl}
        timing = {"cron_string": cron_string, "timezone": zone}
        return self._put_repeated(first, func, args, kwargs, options, repeat, timing)

    def _put_repeated(
        self,
        first: float,
        func: Any,
        args: Any,
        kwargs: Any,
        options: dict[str, Any],
        repeat: int | None,
        timing: dict[str, Any],
    ) -> Job:
        if options.get("depends_on") is not None:
            raise ValueError("depends_on: only a job that runs once can wait for others")
        if options.get("result_ttl") is None:
            options["result_ttl"] = -1
        counted = {} if repeat is None else {"repeat": int(repeat)}
        options["meta"] = {**(options.get("meta") or {}), **timing, **counted}
        return self._put(first, func, args, kwargs, options)

    def _put(self, score: float, func: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Job:
        """Store job and time atomically, so that no clock runs it at the wrong time."""
        at_front = options.pop("at_front", None)
        job = self._create_job(func, args, kwargs, commit=False, **options)
        if at_front:
            job.enqueue_at_front = True
        with self.connection.pipeline() as pipeline:
            if not job.meta:
                pipeline.hdel(job.key, "meta")  # of an earlier entry with the same id
            job.save(pipeline=pipeline)
            pipeline.zadd(self.scheduled_jobs_key, {job.id: score})
            pipeline.hdel(keys.BROKEN_ENTRIES, job.id)
            scheduler_wakeup.wake_within(pipeline)
            pipeline.execute()
        return job

    def _create_job(self, func: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Job:
        """Create an entry's job with its queue's serializer, timeout and time to live.

        Raises:
            UnknownQueue: ``RQ_QUEUES`` does not name the queue.
        """
        queue_name = options.pop("queue_name", None) or self.queue_name
        config = conf.queue(queue_name)
        commit = options.pop("commit", True)
        if options.get("timeout") is None:
            options["timeout"] = config.get("DEFAULT_TIMEOUT")
        if options.get("result_ttl") is None:
            options["result_ttl"] = config.get(
                "DEFAULT_RESULT_TTL", conf.rq_setting("DEFAULT_RESULT_TTL")
            )

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

    # --- changing and listing entries -------------------------------------------------------------

    def change_execution_time(self, job: Job, date_time: datetime) -> None:
        """Change when an entry runs.

        Raises:
            ValueError: the time is naive, or there is no such entry.
        """
        score = _aware(date_time).timestamp()
        with self.connection.pipeline() as pipeline:
            pipeline.zadd(self.scheduled_jobs_key, {job.id: score}, xx=True)
            pipeline.zscore(self.scheduled_jobs_key, job.id)
            scheduler_wakeup.wake_within(pipeline)
            found = pipeline.execute()[1]
        if found is None:
            raise ValueError("Job not in scheduled jobs queue")

    def cancel(self, job: Job | str) -> None:
        """Remove an entry, including one that was set aside."""
        entry = job if isinstance(job, str) else job.id
        with self.connection.pipeline() as pipeline:
            pipeline.zrem(self.scheduled_jobs_key, entry)
            pipeline.hdel(keys.BROKEN_ENTRIES, entry)
            pipeline.execute()

    def count(self, until: datetime | timedelta | float | None = None) -> int:
        """Return how many entries are due until a time: aware, relative to now, or Unix seconds."""
        return int(self.connection.zcount(self.scheduled_jobs_key, "-inf", self._until(until)))

    def get_jobs(
        self,
        until: datetime | timedelta | float | None = None,
        with_times: bool = False,
        offset: int | None = None,
        length: int | None = None,
    ) -> Iterator[Any]:
        """Yield the entries due until a time, as jobs, or (job, aware time) with ``with_times``.

        Unreadable entries are skipped. Changes nothing.
        """
        found: Any = self.connection.zrangebyscore(
            self.scheduled_jobs_key,
            "-inf",
            self._until(until),
            start=offset,
            num=length,
            withscores=True,
        )

        for entry, score in found:
            try:
                job = fetch(self.job_class, as_text(entry), self.connection, JSONSerializer)
            except (NoSuchJobError, ValueError):
                continue
            yield (job, datetime.fromtimestamp(float(score), tz=UTC)) if with_times else job

    def get_jobs_to_queue(self, with_times: bool = False) -> Iterator[Any]:
        """Yield the entries that are due now."""
        return self.get_jobs(self.clock(), with_times=with_times)

    def broken_entries(self) -> dict[str, str]:
        """Return the entries that were set aside because they cannot run, with their errors."""
        return self.entries.broken()

    def restore(self, entry: str, when: datetime) -> None:
        """Restore an entry that was set aside, to run at ``when``.

        Raises:
            UnknownSchedule: it was not set aside.
            ValueError: the time is naive.
        """
        self.entries.restore(entry, _aware(when).timestamp())
        scheduler_wakeup.wake()

    def _until(self, until: datetime | timedelta | float | None) -> float:
        if until is None:
            return math.inf
        if isinstance(until, timedelta):
            return self.clock() + until.total_seconds()
        return _aware(until).timestamp() if isinstance(until, datetime) else float(until)

    # --- running entries --------------------------------------------------------------------------

    def serve(self, renew: Callable[[], None] = lambda: None) -> float | None:
        """Enqueue due entries; return when the next is due (Unix seconds) or None."""
        return self.entries.serve(renew)

    def enqueue_job(self, job: Job) -> None:
        """Enqueue an entry now and set its next time. Does nothing if there is no such entry."""
        score: Any = self.connection.zscore(self.scheduled_jobs_key, job.id)
        if score is not None:
            self.entries.serve_one(job.id, float(score))

    def enqueue_jobs(self) -> list[Job]:
        """Run one pass; return the entries that were due. The name is rq-scheduler's."""
        due = list(self.get_jobs_to_queue())
        self.serve()
        return due

    def acquire_lock(self) -> bool:
        """Acquire or renew the clock's lock for five seconds; return whether it is held."""
        self._lock_acquired = bool(
            broker.run(self.connection, "lead", "clock", self.token, LOCK_MS)
        )
        return self._lock_acquired

    def remove_lock(self) -> None:
        """Release the lock if this process still holds it."""
        broker.run(self.connection, "resign", "clock", self.token)
        self._lock_acquired = False

    def run(self, burst: bool = False) -> None:
        """Run entries and schedules until SIGTERM; with ``burst``, one pass."""
        Clock(broker.source_of(self.queue_name), self).run(burst=burst)


def scheduler_of(source: str) -> Scheduler:
    """Return the project's scheduler for a Redis if it is a ``Scheduler``, else a ``Scheduler``."""
    connection = broker.source_client(source, "work")
    made = django_rq.get_scheduler(source, connection=connection)
    if isinstance(made, Scheduler):
        return made
    return Scheduler(queue_name=source, queue=django_rq.get_queue(source), connection=connection)


def _aware(moment: datetime) -> datetime:
    if timezone.is_naive(moment):
        raise ValueError(f"{moment!r} is a naive datetime: give it a time zone")
    return moment
