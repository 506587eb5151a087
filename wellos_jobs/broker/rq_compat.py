"""All names of RQ, django-rq and rq-scheduler that this package overrides, calls or writes.

They may change without notice. A test compares this list with the installed versions, and the code
of this package with this list: a release that changes something breaks that test first, and ``why``
says where to look.

A name is ``module:attribute``. Signatures are without annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import keys

SUPPORTED = {"rq": "3", "django-rq": "4", "rq-scheduler": "0"}
"""The major versions this list was made for."""


@dataclass(frozen=True, slots=True)
class Override:
    """A method of theirs that one of our classes overrides; ``signature`` is theirs."""

    name: str
    signature: str
    ours: str
    why: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function or class of theirs that we call, with its positional and named arguments."""

    name: str
    positional: int = 0
    named: tuple[str, ...] = ()
    why: str = ""


_LANES = "wellos_jobs.broker.rq_queue:LaneQueue"
_WORKER = "wellos_jobs.worker.rq_jobs:_RqWorker"
_LIMITS = "wellos_jobs.worker.rq_jobs:_RunLimits"
_SCHEDULER = "wellos_jobs.scheduler:Scheduler"

OVERRIDES: tuple[Override, ...] = (
    Override("rq.queue:Queue.count", "", _LANES, "django-rq's pages and `rq info` count all lanes"),
    Override(
        "rq.queue:Queue.get_job_ids", "(self, offset=0, length=-1)", _LANES, "lists of all lanes"
    ),
    Override(
        "rq.queue:Queue.get_job_position",
        "(self, job_or_id)",
        _LANES,
        "the position over all lanes",
    ),
    Override(
        "rq.queue:Queue.remove",
        "(self, job_or_id, pipeline=None)",
        _LANES,
        "from any lane; one of ours is canceled, since it must be in a structure",
    ),
    Override(
        "rq.queue:Queue.empty", "(self)", _LANES, "cancels ours with events, deletes foreign ones"
    ),
    Override(
        "rq.queue:Queue.create_job",
        "",
        _LANES,
        "enqueue makes its jobs by it: refuses ids that are too long",
    ),
    Override(
        "rq.queue:Queue.push_job_id",
        "(self, job_id, pipeline=None, at_front=False)",
        _LANES,
        "RQ's enqueue, retry and repeat push through it: wakes a worker, adds the event",
    ),
    Override(
        "rq.queue:Queue.schedule_job",
        "(self, job, datetime, pipeline=None, unique=False)",
        _LANES,
        "enqueue_at, enqueue_in, delayed retries and repeats go through it: adds the event",
    ),
    Override(
        "rq.worker:SimpleWorker.handle_exception",
        "(self, job, *exc_info)",
        _WORKER,
        "remembers the error for the dead letter; called by perform_job after a failure callback",
    ),
    Override(
        "rq.job:Job.restore",
        "(self, raw_data)",
        "wellos_jobs.broker.rq_fetch:_Bounded",
        "RQ reads dependents by it, and unpacks whatever they contain",
    ),
    Override(
        "rq.timeouts:UnixSignalDeathPenalty.__init__",
        "(self, timeout, exception=<class 'rq.timeouts.BaseTimeoutException'>, **kwargs)",
        _LIMITS,
        "made around the function with job_id, and around callbacks",
    ),
    Override(
        "rq.timeouts:UnixSignalDeathPenalty.__exit__",
        "(self, type, value, traceback)",
        _LIMITS,
        "what a function leaves behind is found before RQ stores how it ended",
    ),
    Override(
        "rq.worker:SimpleWorker.death_penalty_class",
        "",
        _WORKER,
        "around the function and the callbacks",
    ),
    Override(
        "rq_scheduler:Scheduler.__init__",
        "(self, queue_name='default', queue=None, interval=60, connection=None, job_class=None,"
        " queue_class=None, name=None)",
        _SCHEDULER,
        "takes a clock",
    ),
    Override(
        "rq_scheduler:Scheduler.enqueue_at",
        "(self, scheduled_time, func, *args, **kwargs)",
        _SCHEDULER,
        "exact times",
    ),
    Override(
        "rq_scheduler:Scheduler.enqueue_in",
        "(self, time_delta, func, *args, **kwargs)",
        _SCHEDULER,
        "our clock",
    ),
    Override(
        "rq_scheduler:Scheduler.schedule",
        "(self, scheduled_time, func, args=None, kwargs=None, interval=None, repeat=None,"
        " result_ttl=None, ttl=None, timeout=None, id=None, description=None, queue_name=None,"
        " meta=None, depends_on=None, on_success=None, on_failure=None, at_front=None)",
        _SCHEDULER,
        "intervals that do not drift; the rest is passed on by name",
    ),
    Override(
        "rq_scheduler:Scheduler.cron",
        "(self, cron_string, func, args=None, kwargs=None, repeat=None, queue_name=None,"
        " result_ttl=-1, ttl=None, id=None, timeout=None, description=None, meta=None,"
        " use_local_timezone=False, depends_on=None, on_success=None, on_failure=None,"
        " at_front=False)",
        _SCHEDULER,
        "cron lines under a zone",
    ),
    Override(
        "rq_scheduler:Scheduler.change_execution_time",
        "(self, job, date_time)",
        _SCHEDULER,
        "exact, in one step",
    ),
    Override(
        "rq_scheduler:Scheduler._create_job",
        "(self, func, args=None, kwargs=None, commit=True, result_ttl=None, ttl=None, id=None,"
        " description=None, queue_name=None, timeout=None, meta=None, depends_on=None,"
        " on_success=None, on_failure=None)",
        _SCHEDULER,
        "the serializer of the queue",
    ),
    Override(
        "rq_scheduler:Scheduler.cancel",
        "(self, job)",
        _SCHEDULER,
        "also an entry that was set aside",
    ),
    Override(
        "rq_scheduler:Scheduler.count",
        "(self, until=None)",
        _SCHEDULER,
        "no utcnow(), no naive times",
    ),
    Override(
        "rq_scheduler:Scheduler.get_jobs",
        "(self, until=None, with_times=False, offset=None, length=None)",
        _SCHEDULER,
        "JSON, aware times; reading changes nothing",
    ),
    Override(
        "rq_scheduler:Scheduler.get_jobs_to_queue",
        "(self, with_times=False)",
        _SCHEDULER,
        "entries due by our clock",
    ),
    Override("rq_scheduler:Scheduler.enqueue_job", "(self, job)", _SCHEDULER, "in one step"),
    Override("rq_scheduler:Scheduler.enqueue_jobs", "(self)", _SCHEDULER, "one pass of our clock"),
    Override("rq_scheduler:Scheduler.acquire_lock", "(self)", _SCHEDULER, "with an owner token"),
    Override("rq_scheduler:Scheduler.remove_lock", "(self)", _SCHEDULER, "only our own"),
    Override(
        "rq_scheduler:Scheduler.run", "(self, burst=False)", _SCHEDULER, "the loop is our clock"
    ),
    Override(
        "rq_scheduler:Scheduler.redis_scheduler_namespace_prefix",
        "",
        _SCHEDULER,
        "follows RQ_KEY_PREFIX",
    ),
    Override("rq_scheduler:Scheduler.scheduler_key", "", _SCHEDULER, "follows RQ_KEY_PREFIX"),
    Override("rq_scheduler:Scheduler.scheduler_lock_key", "", _SCHEDULER, "the lock of the clock"),
    Override("rq_scheduler:Scheduler.scheduled_jobs_key", "", _SCHEDULER, "follows RQ_KEY_PREFIX"),
)

CALLS: tuple[Call, ...] = (
    Call("rq.worker:SimpleWorker", 1, ("name", "connection", "serializer", "exception_handlers")),
    Call(
        "rq.worker:SimpleWorker.prepare_execution",
        2,
        why="registers the run in rq:wip, with a time to live",
    ),
    Call(
        "rq.worker:SimpleWorker.perform_job",
        4,
        why="runs the job, stores its end, runs callbacks; False after an error",
    ),
    Call("rq.job:Job", 1, ("connection", "serializer"), why="what Job.fetch does, but bounded"),
    Call("rq.job:Job.restore", 2, why="reads the fields of a hash"),
    Call(
        "rq.job:Job.create",
        1,
        ("args", "kwargs", "connection", "serializer", "status", "origin", "timeout"),
    ),
    Call("rq.job:Job.create", 1, ("result_ttl", "ttl", "id", "description", "meta", "depends_on")),
    Call("rq.job:Job.create", 1, ("on_success", "on_failure")),
    Call("rq.job:Job.save", 1, ("pipeline",)),
    Call("rq.job:Job.get_status", 1, ("refresh",)),
    Call(
        "rq.queue:Queue.enqueue_job", 2, ("at_front",), why="handles the dependencies of an entry"
    ),
    Call("rq.job:Retry", why="a job may return it: this counts as an attempt"),
    Call("rq.job:JobStatus", why="the values of the field status"),
    Call("rq.exceptions:NoSuchJobError"),
    Call("rq.serializers:JSONSerializer", why="reads our payloads"),
    Call("rq.serializers:DefaultSerializer", why="pickle, with ALLOW_PICKLE only"),
    Call("rq.timeouts:BaseTimeoutException", why="the reason of the dead letter is then timeout"),
    Call("rq.utils:as_text", 1),
    Call("rq.version:VERSION", why="in the hash of a worker"),
    Call("rq.defaults:RQ_KEY_PREFIX", why="the prefix of all keys"),
    Call("django_rq:get_queue", 1, ("connection", "serializer", "queue_class")),
    Call("django_rq:get_scheduler", 1, ("connection",)),
    Call("django_rq.queues:DjangoRQ", why="the base of LaneQueue"),
    Call("django_rq.queues:DjangoScheduler", why="the base of our Scheduler"),
    Call(
        "django_rq.connection_utils:get_redis_connection",
        1,
        why="for an entry of RQ_QUEUES; the options of its pool",
    ),
    Call("django_rq.workers:get_exception_handlers", why="RQ_EXCEPTION_HANDLERS, for foreign jobs"),
    Call("django_rq.admin:QueueAdmin", why="its pages are closed"),
    Call("django_rq.admin:QueueAdmin.get_urls", 1, why="replaced: closes Django's pages of it"),
    Call(
        "django_rq.admin:QueueAdmin.has_module_permission",
        why="replaced: the pages lose their entry on the index",
    ),
    Call("django_rq.urls:urlpatterns", why="their views are replaced, in their modules too"),
)

ATTRIBUTES: Mapping[str, str] = {
    "rq.queue:Queue._key": "the base of lane keys, set in __init__",
    "rq.job:Job._dependency_ids": "the dependencies of an entry of rq-scheduler, set in __init__",
    "rq.job:Job._result": "the return value: an rq.Retry counts as an attempt, set in __init__",
    "rq.executions:Execution.composite_key": "the member of rq:wip whose score we change",
}
"""Attributes that we read. Private ones are set by the constructor of their class."""

_P = keys.PREFIX
VALUES: Mapping[str, object] = {
    "rq.queue:Queue.redis_queue_namespace_prefix": f"{_P}:queue:",
    "rq.queue:Queue.redis_queues_keys": f"{_P}:queues",
    "rq.job:Job.redis_job_namespace_prefix": f"{_P}:job:",
    "rq.worker:SimpleWorker.redis_worker_namespace_prefix": f"{_P}:worker:",
    "rq.worker:SimpleWorker.redis_workers_keys": f"{_P}:workers",
    "rq.worker_registration:WORKERS_BY_QUEUE_KEY": f"{_P}:workers:%s",
    "rq.registry:StartedJobRegistry.key_template": f"{_P}:wip:{{0}}",
    "rq.registry:ScheduledJobRegistry.key_template": f"{_P}:scheduled:{{0}}",
    "rq.registry:DeferredJobRegistry.key_template": f"{_P}:deferred:{{0}}",
    "rq.registry:FinishedJobRegistry.key_template": f"{_P}:finished:{{0}}",
    "rq.registry:FailedJobRegistry.key_template": f"{_P}:failed:{{0}}",
    "rq.registry:CanceledJobRegistry.key_template": f"{_P}:canceled:{{0}}",
    "rq.suspension:WORKERS_SUSPENDED": f"{_P}:suspended",
    "rq.command:PUBSUB_CHANNEL_TEMPLATE": f"{_P}:pubsub:%s",
    "rq.executions:WORKER_EXECUTIONS_KEY_TEMPLATE": f"{_P}:worker:{{0}}:executions",
}
"""Their constants that our keys and scripts repeat."""

JOB_FIELDS = (
    *("status", "origin", "data", "description", "timeout", "worker_name"),
    *("created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat"),
)
"""Fields of a job hash that our scripts write and RQ reads."""

RESULTS = f"{_P}:results:"
"""The prefix of the key of a job's results, as made by ``rq.results:Result.get_key``."""

COMMANDS = ("stop-job", "stop-execution", "kill-horse", "shutdown")
"""RQ's commands to workers that our supervisor obeys."""
