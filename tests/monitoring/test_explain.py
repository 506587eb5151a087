"""explain(): one sentence for each reason a job can wait, from live state."""

from __future__ import annotations

import re

import pytest
import redis

from wellos_jobs import Concurrency, JobHandle, Priority, RateLimit, enqueue, job, operations
from wellos_jobs.broker import job_hash, keys
from wellos_jobs.contrib import tasks
from wellos_jobs.definitions import registry
from wellos_jobs.definitions.validation import define
from wellos_jobs.worker.heartbeat import Heartbeat

from ..jobs import add, noop
from ..support.engine import Hand, work

pytestmark = pytest.mark.django_db(transaction=True)


def says(handle: JobHandle, pattern: str) -> None:
    assert re.fullmatch(pattern, handle.explain()), handle.explain()


def test_a_queue_without_workers(redis_client: redis.Redis) -> None:
    says(noop.enqueue(), "No worker serves the queue default.")


def test_jobs_before_it_in_the_queue(redis_client: redis.Redis) -> None:
    hand = Hand("default")
    redis_client.sadd(f"{keys.WORKERS}:default", "rq:worker:hand")
    noop.using(priority=Priority.HIGH).enqueue()
    noop.enqueue()
    handle = noop.enqueue()
    assert hand.claimer.queue_set
    says(handle, "It waits for a free worker: 2 jobs of default come before it.")


def test_an_active_and_a_completed_job(redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    hand = Hand("default")
    hand.claimer.claim()
    says(handle, r"It runs on worker \S+\.")
    done = add.enqueue(a=1, b=2)
    work("reports")
    says(done, "It waits for nothing: it has completed.")


def test_a_paused_queue_and_suspended_workers(redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    operations.pause_queue("default")
    says(handle, "The queue default is paused.")
    redis_client.set(keys.SUSPENDED, 1)
    says(handle, r"All work is suspended \(rqsuspend\).*")


def test_a_delayed_job_and_a_retry(redis_client: redis.Redis) -> None:
    handle = noop.using(delay=3600).enqueue()
    says(handle, r"It is delayed until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+\.")
    redis_client.hset(keys.job(handle.id), job_hash.ERROR, "503")
    says(handle, r"Its last attempt failed; it is tried again at .*")


def test_a_blocked_job(redis_client: redis.Redis) -> None:
    first = noop.using(delay=3600).enqueue()
    says(noop.using(depends_on=[first]).enqueue(), f"It waits for test-noop \\({first}\\).")


def test_a_canceled_job(redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    handle.cancel()
    says(handle, "It was canceled.")


def limited_by_slots() -> None:
    pass


def limited_by_rate() -> None:
    pass


@pytest.mark.parametrize(
    ("function", "limit", "pattern"),
    [
        (
            limited_by_slots,
            Concurrency(1, key="bank"),
            r"1 runs of bank are allowed at once, and they are taken: \S+\.",
        ),
        (
            limited_by_rate,
            RateLimit("1/min", key="bank"),
            r"The rate limit bank is used up: 1 in 60 s\.",
        ),
    ],
)
def test_a_job_held_back_by_a_limit(
    redis_client: redis.Redis, function: object, limit: object, pattern: str
) -> None:
    with registry.isolated():
        limited = job("limited", limits=[limit])(function)  # type: ignore[arg-type]
        limited.enqueue()
        second = limited.enqueue()
        hand = Hand("default")
        redis_client.sadd(f"{keys.WORKERS}:default", "rq:worker:hand")
        hand.claimer.claim()
        assert hand.claimer.claim().claim is None
        says(second, pattern)


def test_a_job_unknown_to_redis(redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    redis_client.delete(keys.job(handle.id))
    says(handle, "Redis does not know it yet: .*")


def test_more_urgent_priorities_come_first(redis_client: redis.Redis) -> None:
    adders = (
        tasks.add_critical_task,
        tasks.add_user_action,
        tasks.add_background_sync,
        tasks.add_cleanup,
    )
    records = [adder({"x": 1}, organization="acme").record() for adder in adders]
    assert [(record.name, record.priority, record.state) for record in records] == [
        ("critical-task", Priority.CRITICAL, "waiting"),
        ("user-action", Priority.HIGH, "waiting"),
        ("background-sync", Priority.NORMAL, "waiting"),
        ("cleanup", Priority.LOW, "delayed"),
    ]
    assert {(record.queue, record.organization_id) for record in records} == {("tasks", "acme")}


# --- code -----------------------------------------------------------------------------------------


def letter(to: str) -> None: ...


def as_it_is(data: dict[str, object]) -> dict[str, object]:
    return data


def supervised(name: str, code: str, redis_client: redis.Redis) -> Hand:
    """A worker of a supervisor that tells of its code."""
    hand = Hand("default", name=name, code=code)
    redis_client.hset(keys.worker(name), "w:supervisor", name)
    Heartbeat(hand.connection, name, "workers", ["default"], 90, hand.queue_set).renew([])
    return hand


def test_a_name_that_no_worker_knows(redis_client: redis.Redis) -> None:
    handle = enqueue("test-later", {})
    supervised("old", "old", redis_client).run()
    says(handle, "It waits for code: no worker here knows the job test-later yet.")


def test_a_version_that_no_worker_knows(redis_client: redis.Redis) -> None:
    with registry.isolated():
        registry.register(define("letter", letter, version=2, upgrade={1: as_it_is}))
        handle = enqueue("letter", {"to": "ada"})
    with registry.isolated():
        registry.register(define("letter", letter))
        old = supervised("old", "old", redis_client)
        supervised("too", "old", redis_client)
        old.run()
    says(
        handle,
        r"It waits for code: job letter version 2; no worker here knows it yet "
        r"\(2 workers know version 1\)\.",
    )
    supervised("new", "new", redis_client)
    says(handle, "It waits for a free worker that knows letter version 2.")


def test_arguments_that_no_worker_takes(redis_client: redis.Redis) -> None:
    handle = enqueue("letter", {"to": "ada", "tone": "kind"})
    with registry.isolated():
        registry.register(define("letter", letter))
        supervised("old", "old", redis_client).run()
    says(
        handle,
        "It waits for code: no worker here takes its arguments yet. One said: letter: unknown "
        "argument 'tone'.*",
    )
