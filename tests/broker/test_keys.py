"""Redis keys: RQ's layout, and the same names in Python and in the scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources

import pytest
import redis
from rq.job import Job
from rq.queue import Queue
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.suspension import WORKERS_SUSPENDED
from rq.worker import Worker

from wellos_jobs import Priority
from wellos_jobs.broker import keys

from ..jobs import noop, scripted
from ..support.engine import Books, Hand
from ..support.processes import PROJECT

pytestmark = pytest.mark.django_db(databases=["default", "other"])

QUEUE = "some queue: ä"
JOB = "0190a6b2-7c1d-7e3f-8a5b-0123456789ab"


def lua(client: redis.Redis, expression: str, *arguments: str) -> str:
    """Return the value of an expression in a script."""
    include = resources.files("wellos_jobs.broker") / "scripts" / "include"
    common = "\n".join((include / name).read_text() for name in ("common.lua", "limits.lua"))
    return client.eval(f"{common}\nreturn {expression}", 1, keys.PREFIX, *arguments).decode()


@pytest.mark.parametrize("priority", list(Priority))
def test_lua_and_python_build_the_same_lane_keys(
    redis_client: redis.Redis, priority: Priority
) -> None:
    found = lua(redis_client, "lane_key(ARGV[1], ARGV[2])", QUEUE, str(int(priority)))
    assert found == keys.lane(QUEUE, priority)
    assert found in keys.lanes(QUEUE)


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("job_key(ARGV[1])", keys.job(JOB)),
        ("worker_key(ARGV[1])", keys.worker(JOB)),
        ("execution_key(ARGV[1])", keys.execution(JOB)),
        ("wip_key(ARGV[1])", keys.wip(JOB)),
        ("scheduled_key(ARGV[1])", keys.scheduled(JOB)),
        ("deferred_key(ARGV[1])", keys.deferred(JOB)),
        ("final_key('finished', ARGV[1])", keys.finished(JOB)),
        ("final_key('failed', ARGV[1])", keys.failed(JOB)),
        ("final_key('canceled', ARGV[1])", keys.canceled(JOB)),
        ("supervisor_key(ARGV[1])", keys.supervisor(JOB)),
        ("set_key(ARGV[1])", keys.queue_set(JOB)),
        ("sets_key(ARGV[1])", keys.sets_of(JOB)),
        ("ready_key(ARGV[1])", keys.ready(JOB)),
        ("age_key(ARGV[1])", keys.age(JOB)),
        ("bell_key(ARGV[1])", keys.bell(JOB)),
        ("turns_key(ARGV[1])", keys.turns(JOB)),
        ("parked_key(ARGV[1])", keys.parked(JOB)),
        ("parked_of_key(ARGV[1])", keys.parked_of(JOB)),
        ("running_key(ARGV[1])", keys.running(JOB)),
        ("starts_key(ARGV[1])", keys.starts(JOB)),
        ("breaker_key(ARGV[1])", keys.breaker(JOB)),
        ("failures_key(ARGV[1])", keys.failures(JOB)),
        ("QUEUES", keys.QUEUES),
        ("WORKERS", keys.WORKERS),
        ("SUSPENDED", keys.SUSPENDED),
        ("EVENTS", keys.EVENTS),
        ("DUE", keys.DUE),
        ("LEASES", keys.LEASES),
        ("PAUSED", keys.PAUSED),
        ("FAIR", keys.FAIR),
        ("SUPERVISORS", keys.SUPERVISORS),
        ("GATES", keys.GATES),
        ("GATED", keys.GATED),
        ("LIMITS", keys.LIMITS),
        ("PARKED_FROM", keys.PARKED_FROM),
        ("FAR", str(keys.FAR)),
        ("W", keys.OWN),
    ],
)
def test_lua_and_python_build_the_same_other_keys(
    redis_client: redis.Redis, expression: str, key: str
) -> None:
    assert lua(redis_client, expression, JOB) == key


def test_the_keys_of_rq_are_rq_s() -> None:
    connection = redis.Redis()
    queue = Queue(QUEUE, connection=connection)
    assert keys.job(JOB) == Job.key_for(JOB)
    assert keys.lane(QUEUE) == queue.key
    assert queue.redis_queues_keys == keys.QUEUES
    assert WORKERS_SUSPENDED == keys.SUSPENDED
    assert Worker.redis_workers_keys == keys.WORKERS
    assert keys.worker("w") == f"{Worker.redis_worker_namespace_prefix}w"
    for ours, registry in (
        (keys.wip, StartedJobRegistry),
        (keys.scheduled, ScheduledJobRegistry),
        (keys.deferred, DeferredJobRegistry),
        (keys.finished, FinishedJobRegistry),
        (keys.failed, FailedJobRegistry),
        (keys.canceled, CanceledJobRegistry),
    ):
        assert ours(QUEUE) == registry(queue=queue).key


def test_jobs_use_the_keys_that_python_knows_and_no_others(
    redis_client: redis.Redis, django_capture_on_commit_callbacks: object
) -> None:
    hand = Hand("default", "email", name="w")
    books = Books()
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        done = noop.using(priority=Priority.HIGH).enqueue()
        broken = scripted.using(max_attempts=1).enqueue(steps=["raise:ValueError:x"])
        later = noop.using(delay=60, queue="email").enqueue()
        gone = noop.using(priority=Priority.BULK).enqueue()
        waiting = noop.using(queue="email").enqueue()
    gone.cancel()
    hand.run()
    hand.run()
    assert {key.decode() for key in redis_client.keys("*")} == {
        *(keys.job(handle) for handle in (done, broken, later, gone, waiting)),
        keys.QUEUES,
        keys.WORKERS,
        f"{keys.WORKERS}:default",
        f"{keys.WORKERS}:email",
        keys.worker("w"),
        keys.lane("email"),
        keys.finished("default"),
        keys.failed("default"),
        keys.canceled("default"),
        keys.scheduled("email"),
        keys.DUE,
        keys.EVENTS,
        keys.EPOCH,
        keys.queue_set(hand.queue_set),
        keys.sets_of("default"),
        keys.sets_of("email"),
        keys.ready(hand.queue_set),
        keys.age(hand.queue_set),
        keys.bell(hand.queue_set),
    }
    assert books.fold() > 0


def test_rq_s_prefix_is_followed() -> None:
    script = (
        "from wellos_jobs.broker import keys; print(keys.job(1), keys.EVENTS, keys.lane('a', 1))"
    )
    environment = {
        **os.environ,
        "RQ_KEY_PREFIX": "shop",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["shop:job:1", "shop:wellos:events", "shop:queue:a:p1"]
