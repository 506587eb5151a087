"""The supervisor renews the leases of its workers, even if Redis has forgotten the workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import redis

from wellos_jobs import JobHandle
from wellos_jobs.broker import keys
from wellos_jobs.broker.claims import Outcome, rescue
from wellos_jobs.processes.child import Child
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.worker.supervisor import Supervisor, SupervisorOptions
from wellos_jobs.worker.worker import WorkerOptions

from ..jobs import noop
from ..support.engine import Hand

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture
def push(django_capture_on_commit_callbacks: Any) -> Callable[[], JobHandle]:
    def put() -> JobHandle:
        with django_capture_on_commit_callbacks(execute=True):
            return noop.enqueue()

    return put


def supervisor_of(hand: Hand, job_id: str = "") -> Supervisor:
    """A supervisor whose only worker is ``hand``, in this job."""
    options = WorkerOptions(hand.source, hand.queues, hand.queue_set)
    supervisor = Supervisor(SupervisorOptions(options, processes=0))
    slot = Slot()
    if job_id:
        slot.begin(job_id, 60)
    supervisor.workers[os.getpid()] = Child(hand.name, os.getpid(), slot)
    return supervisor


def test_a_run_outlives_the_worker_s_key(
    push: Callable[[], JobHandle], redis_client: redis.Redis
) -> None:
    """Redis was away until the key expired: the run continues, is not rescued, and settles."""
    handle, hand = push(), Hand("default")
    claim = hand.take()
    redis_client.delete(keys.worker("hand"))
    redis_client.zadd(keys.LEASES, {str(handle): 1})
    supervisor_of(hand, claim.id)._renew()
    assert rescue(redis_client, "crashed", "its lease ran out") == []
    assert redis_client.hget(keys.worker("hand"), "current_job") == str(handle).encode()
    assert redis_client.ttl(keys.worker("hand")) > 0
    assert hand.settle(claim, Outcome("completed", result="1"))


def test_a_run_that_lost_its_claim_is_not_renewed(
    push: Callable[[], JobHandle], redis_client: redis.Redis
) -> None:
    handle, hand = push(), Hand("default")
    claim = hand.take()
    redis_client.delete(keys.worker("hand"))
    redis_client.zadd(keys.LEASES, {str(handle): 1})
    rescue(redis_client, "crashed", "its lease ran out")
    assert Hand("default", name="other").take().id == str(handle)
    redis_client.zadd(keys.LEASES, {str(handle): 1})
    supervisor_of(hand, claim.id)._renew()
    assert redis_client.zscore(keys.LEASES, str(handle)) == 1
    assert redis_client.hget(keys.worker("hand"), "current_job") is None


def test_a_run_that_has_ended_is_not_renewed(
    push: Callable[[], JobHandle], redis_client: redis.Redis
) -> None:
    """Redis has come back with data from before the settle: the worker's key names the ended run,
    while its worker is in another job."""
    ended, hand = push(), Hand("default")
    hand.take()
    running = push()
    claim = Hand("default", name="second").take()
    redis_client.hset(keys.job(running.id), "worker_name", "hand")
    redis_client.zadd(keys.LEASES, {str(ended): 1, str(running): 1})

    supervisor_of(hand, claim.id)._renew()
    assert redis_client.zscore(keys.LEASES, str(ended)) == 1
    assert (redis_client.zscore(keys.LEASES, str(running)) or 0) > 1
    assert redis_client.hget(keys.worker("hand"), "current_job") == str(running).encode()


@pytest.mark.parametrize("has_work", [True, False])
def test_a_claim_says_what_the_worker_holds_now(
    push: Callable[[], JobHandle], redis_client: redis.Redis, has_work: bool
) -> None:
    """Also one that finds nothing: an old entry would be renewed for ever."""
    hand = Hand("default")
    redis_client.hset(keys.worker("hand"), mapping={"current_job": "ended", "state": "busy"})
    expected = [str(push()), "busy"] if has_work else ["", "idle"]
    hand.claim()
    found = redis_client.hmget(keys.worker("hand"), "current_job", "state")
    assert [value.decode() for value in found if value is not None] == expected


def test_no_key_of_a_worker_is_left_without_a_time_to_live(
    push: Callable[[], JobHandle], redis_client: redis.Redis
) -> None:
    """Redis has lost everything, and the worker's process dies before it is registered again."""
    push()
    hand = Hand("default")
    claim = hand.take()
    redis_client.flushall()
    assert not hand.settle(claim, Outcome("completed", result="1"))
    assert redis_client.ttl(keys.worker("hand")) > 0

    redis_client.delete(keys.worker("hand"))
    supervisor = supervisor_of(hand, claim.id)
    supervisor.heartbeat.renew(supervisor.workers.values())
    assert redis_client.ttl(keys.worker("hand")) > 0
