"""Redis keys: RQ's layout, and the same names in Python and in the scripts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

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


OWN_FAMILIES: dict[str, Callable[[str], str]] = {
    "supervisor": keys.supervisor,
    "set": keys.queue_set,
    "sets": keys.sets_of,
    "ready": keys.ready,
    "age": keys.age,
    "bell": keys.bell,
    "turns": keys.turns,
    "lane": keys.code_lane,
    "code_lanes": keys.code_lanes,
    "held": keys.held,
    "unknown": keys.unknown,
    "jobs": keys.jobs,
    "parked": keys.parked,
    "parked_of": keys.parked_of,
    "running": keys.running,
    "starts": keys.starts,
    "breaker": keys.breaker,
    "failures": keys.failures,
}
OWN_KEYS = {
    "paused": keys.PAUSED,
    "fair": keys.FAIR,
    "supervisors": keys.SUPERVISORS,
    "fleet": keys.FLEET,
    "served": keys.SERVED,
    "gates": keys.GATES,
    "gated": keys.GATED,
    "limits": keys.LIMITS,
    "parked_from": keys.PARKED_FROM,
    "epoch": keys.EPOCH,
    "beat": keys.BEAT,
    "leader": keys.LEADER,
    "installation": keys.INSTALLATION,
    "trusted": keys.TRUSTED,
    "clock": keys.CLOCK,
    "events": keys.EVENTS,
    "due": keys.DUE,
    "leases": keys.LEASES,
}
RQ_KEYS = {"queues": keys.QUEUES, "workers": keys.WORKERS, "suspended": keys.SUSPENDED}


def lua(client: redis.Redis, expression: str, *arguments: str) -> str:
    """Return the value of an expression in a script."""
    include = resources.files("wellos_jobs.broker") / "scripts" / "include"
    common = "\n".join((include / name).read_text() for name in ("common.lua", "limits.lua"))
    return client.eval(f"{common}\nreturn {expression}", 1, keys.PREFIX, *arguments).decode()


@pytest.mark.parametrize("priority", list(Priority))
def test_lua_and_python_build_the_same_lane_keys(
    redis_client: redis.Redis, priority: Priority
) -> None:
    lane = "lane_key(lane_name(ARGV[1], ARGV[2]))"
    found = lua(redis_client, lane, QUEUE, str(int(priority)))
    assert found == keys.lane(QUEUE, priority)
    assert found in keys.lanes(QUEUE)


def test_lua_and_python_build_the_same_key_of_a_code_lane(redis_client: redis.Redis) -> None:
    name = lua(redis_client, "lane_name(ARGV[1], '3', ARGV[2])", QUEUE, "send+all@2:0af")
    assert lua(redis_client, "lane_key(ARGV[1])", name) == keys.code_lane(name)
    queue = lua(redis_client, "({parts_of(ARGV[1])})[2]", name)
    code = lua(redis_client, "({parts_of(ARGV[1])})[3]", name)
    assert (queue, code) == (QUEUE, "send+all@2:0af")


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("job_key(ARGV[1])", keys.job(JOB)),
        ("worker_key(ARGV[1])", keys.worker(JOB)),
        ("rq_key('execution', ARGV[1])", keys.execution(JOB)),
        ("rq_key('wip', ARGV[1])", keys.wip(JOB)),
        ("rq_key('scheduled', ARGV[1])", keys.scheduled(JOB)),
        ("rq_key('deferred', ARGV[1])", keys.deferred(JOB)),
        ("rq_key('finished', ARGV[1])", keys.finished(JOB)),
        ("rq_key('failed', ARGV[1])", keys.failed(JOB)),
        ("rq_key('canceled', ARGV[1])", keys.canceled(JOB)),
        *((f"own_key('{family}', ARGV[1])", key(JOB)) for family, key in OWN_FAMILIES.items()),
        *((f"P .. ':{name}'", key) for name, key in RQ_KEYS.items()),
        *((f"W .. '{name}'", key) for name, key in OWN_KEYS.items()),
        ("GATES", keys.GATES),
        ("PARKED_FROM", keys.PARKED_FROM),
        ("EVENTS", keys.EVENTS),
        ("DUE", keys.DUE),
        ("LEASES", keys.LEASES),
        ("FAR", str(keys.FAR)),
        ("W", keys.OWN),
    ],
)
def test_lua_and_python_build_the_same_other_keys(
    redis_client: redis.Redis, expression: str, key: str
) -> None:
    assert lua(redis_client, expression, JOB) == key


def test_scripts_use_no_other_keys() -> None:
    scripts = resources.files("wellos_jobs.broker") / "scripts"
    text = "\n".join(path.read_text() for path in Path(str(scripts)).rglob("*.lua"))
    assert set(re.findall(r"own_key\('(\w+)'", text)) <= OWN_FAMILIES.keys()
    assert set(re.findall(r"\bW \.\. '(\w+)'", text)) == OWN_KEYS.keys()
    single = set(re.findall(r"\bP \.\. ':(\w+)'", text))
    assert single == RQ_KEYS.keys()


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
        keys.jobs(hand.queue_set),
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
