"""A key in Redis that somebody has made something else: it stops nobody else, and a job comes back
from its row."""

from __future__ import annotations

import pytest
import redis

from wellos_jobs import JobHandle, JobState
from wellos_jobs import broker as wellos_redis
from wellos_jobs.broker import claims, keys
from wellos_jobs.maintenance.relay import Rebuild

from ..jobs import noop
from ..support.engine import Books, Hand
from ..support.processes import Fleet

pytestmark = pytest.mark.django_db(transaction=True)


def spoil(client: redis.Redis, handle: JobHandle) -> None:
    """Put a text where the job's hash was."""
    client.set(keys.job(handle.id), "not a hash")


@pytest.mark.parametrize("delay", [None, 0.001])
def test_the_next_job_is_claimed(redis_client: redis.Redis, delay: float | None) -> None:
    first, second = (noop.using(delay=delay).enqueue() for _ in range(2))
    spoil(redis_client, first)
    assert Hand("default").take().id == str(second)


def test_a_dead_worker_s_other_jobs_are_rescued(redis_client: redis.Redis) -> None:
    hand = Hand("default")
    first, second = (noop.enqueue() for _ in range(2))
    for _ in range(2):
        hand.take()
    spoil(redis_client, first)
    redis_client.zadd(
        keys.LEASES, {str(handle): place for place, handle in enumerate((first, second), 1)}
    )
    work = wellos_redis.source_client("default", "work")
    assert [job.id for job in claims.rescue(work, "crashed", "gone")] == [str(second)]
    assert redis_client.zcard(keys.LEASES) == 0


def test_the_hash_is_recreated_from_its_row(
    redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    books = Books()
    first, second = (noop.enqueue() for _ in range(2))
    books.fold()
    spoil(redis_client, first)
    redis_client.delete(keys.job(second.id))
    rebuild = Rebuild("default", ["default"], books.connection)
    while rebuild.step():
        pass
    assert rebuild.pushed == 2
    assert first.state is second.state is JobState.WAITING
    assert f"the key of job={first} is not a hash" in caplog.text


def test_a_failing_task_of_the_supervisor_ends_no_process(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    supervisor = processes.worker()
    supervisor.wait_for_output("started, pid")
    redis_client.delete(keys.SUPERVISORS)
    redis_client.set(keys.SUPERVISORS, "not a sorted set")
    supervisor.wait_for_output("supervisor: a call failed")
    handle = noop.enqueue()
    processes.wait_until(lambda: handle.state is JobState.COMPLETED)
    assert supervisor.is_running()
    redis_client.delete(keys.SUPERVISORS)
    processes.wait_until(lambda: redis_client.zcard(keys.SUPERVISORS))
