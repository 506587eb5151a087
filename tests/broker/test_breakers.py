"""Circuit breakers step by step: open, jobs parked, one probe, closed or open again."""

from __future__ import annotations

import pytest
import redis

from wellos_jobs import JobHandle, operations
from wellos_jobs.broker import claims, keys
from wellos_jobs.broker.claims import Claim, Outcome
from wellos_jobs.models import AuditEntry, JobAttempt

from ..support.engine import Books, Hand
from ..support.guarded_jobs import partner, picky
from ..support.processes import wait_until
from .test_limits import GATES, parked

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]

BREAKER = keys.breaker("b:partner")
DOWN = ["raise:ConnectionError:refused"]
OK = Outcome("completed", verdicts='{"b:partner":"ok"}')
FAILS = Outcome("failed", message="down", verdicts='{"b:partner":"fail"}')


@pytest.fixture
def hand() -> Hand:
    return Hand()


def tripped(hand: Hand) -> None:
    """Let enough runs fail to open the breaker."""
    for _ in range(2):
        partner.using(max_attempts=1).enqueue(steps=DOWN)
        hand.run()


def probe_time(client: redis.Redis) -> None:
    """Make it the time for a probe."""
    client.hset(BREAKER, "until", 0)
    for gate in client.zrange(GATES, 0, -1):
        client.zadd(GATES, {gate: 0})


def probing(hand: Hand, client: redis.Redis, count: int = 3) -> tuple[Claim, list[JobHandle]]:
    """An open breaker with parked jobs, one of which probes."""
    tripped(hand)
    handles = partner.enqueue_bulk([{}] * count)
    assert hand.claim() is None
    probe_time(client)
    probe = hand.take()
    assert probe.id == str(handles[0])
    return probe, handles


def test_it_opens_after_its_number_of_failures_and_costs_no_attempts(
    hand: Hand, redis_client: redis.Redis
) -> None:
    partner.enqueue(steps=[])
    assert hand.run().kind == "completed"
    partner.using(max_attempts=1).enqueue(steps=DOWN)
    hand.run()
    assert not redis_client.exists(BREAKER)
    partner.using(max_attempts=1).enqueue(steps=DOWN)
    hand.run()
    assert redis_client.exists(BREAKER)
    handle = partner.enqueue(steps=DOWN)
    assert hand.claim() is None and handle.state == "waiting"
    assert parked(redis_client, "b:partner") == [str(handle)]
    row = Books().row(handle)
    assert (row.attempts, row.state) == (0, "waiting")
    assert JobAttempt.objects.count() == 2


def test_a_retried_job_waits_too_and_completes(hand: Hand, redis_client: redis.Redis) -> None:
    """Failing twice opens the breaker; its third attempt is the probe."""
    handle = partner.enqueue(steps=["before:3:raise:ConnectionError:refused"])
    assert hand.run().kind == "retried"
    assert hand.run(wait_until(hand.claim)).kind == "retried"
    answer = wait_until(lambda: handle.state == "waiting" or hand.claim())
    assert answer is True, "it was let through while the breaker is open"
    outcome = hand.run(wait_until(hand.claim))
    assert outcome.kind == "completed" and not redis_client.exists(BREAKER)
    assert Books().row(handle).attempts == 3


def test_only_one_probe_runs_at_a_time(hand: Hand, redis_client: redis.Redis) -> None:
    probing(hand, redis_client)
    other = Hand(name="other")
    assert hand.claim() is None and other.claim() is None
    probe_time(redis_client)
    assert hand.claim() is None and other.claim() is None


def test_a_probe_that_succeeds_closes_it(hand: Hand, redis_client: redis.Redis) -> None:
    probe, handles = probing(hand, redis_client)
    assert hand.settle(probe, OK)
    assert not redis_client.exists(BREAKER)
    assert [hand.take().id for _ in range(2)] == [str(handle) for handle in handles[1:]]


def test_a_probe_that_fails_opens_it_again(hand: Hand, redis_client: redis.Redis) -> None:
    probe, _ = probing(hand, redis_client)
    before = float(redis_client.hget(BREAKER, "since") or 0)
    hand.settle(probe, FAILS)
    answer = hand.claimer.claim()
    assert answer.claim is None and answer.next_due is not None and 0.5 < answer.next_due <= 3.01
    assert float(redis_client.hget(BREAKER, "since") or 0) == before, "since when it has been down"
    assert wait_until(hand.claim, 10), "after `reset` seconds comes the next probe"
    assert hand.claim() is None


@pytest.mark.parametrize("ending", ["snoozed", "canceled", "handed_back", "failed"])
def test_after_a_probe_without_a_verdict_another_job_is_the_probe(
    hand: Hand, redis_client: redis.Redis, ending: str
) -> None:
    probe, _ = probing(hand, redis_client)
    hand.settle(probe, Outcome(ending, after=60, message="of no account"))  # type: ignore[arg-type]
    assert redis_client.exists(BREAKER)
    assert hand.claim() is not None, "the next probe, at once"
    assert hand.claim() is None


def test_a_probe_whose_worker_is_killed(hand: Hand, redis_client: redis.Redis) -> None:
    probing(hand, redis_client)
    claims.rescue(hand.connection, "crashed", "killed", worker=hand.name)
    assert redis_client.exists(BREAKER)
    assert hand.claim() is not None
    assert hand.claim() is None


def test_a_probe_that_ends_after_its_lease_has_run_out(
    hand: Hand, redis_client: redis.Redis
) -> None:
    """Its lease has run out and another probe is running: the first verdict does not count."""
    probe, _ = probing(hand, redis_client)
    redis_client.zadd(keys.LEASES, {probe.id: 1})
    assert [found.id for found in claims.rescue(hand.connection, "crashed", "no beat")] == [
        probe.id
    ]
    other = Hand(name="other")
    next_probe = other.take()
    assert not hand.settle(probe, OK)
    assert redis_client.exists(BREAKER) and hand.claim() is None
    other.settle(next_probe, OK)
    assert not redis_client.exists(BREAKER)


def test_a_probe_whose_hash_is_deleted(hand: Hand, redis_client: redis.Redis) -> None:
    """Deleted by foreign code while it runs: its verdict is lost, so another job is the probe."""
    probe, handles = probing(hand, redis_client)
    redis_client.delete(keys.job(probe.id))
    hand.settle(probe, OK)
    probe_time(redis_client)
    assert hand.take().id == str(handles[1])


def test_a_run_started_before_it_opened_changes_nothing(
    hand: Hand, redis_client: redis.Redis
) -> None:
    partner.enqueue()
    straggler = hand.take()
    probe, _ = probing(hand, redis_client)
    hand.settle(straggler, OK)
    assert redis_client.exists(BREAKER)
    hand.settle(probe, OK)
    assert not redis_client.exists(BREAKER)


def test_only_chosen_errors_count(hand: Hand, redis_client: redis.Redis) -> None:
    for step in ("raise:ConnectionError:refused", "raise:ValueError:odd"):
        picky.enqueue(steps=[step])
        hand.run()
    assert not redis_client.exists(keys.breaker("b:picky"))
    picky.enqueue(steps=["raise:KeyError:it"])
    hand.run()
    assert redis_client.exists(keys.breaker("b:picky"))


@pytest.mark.parametrize("step", ["raise:ValueError:ours", "status:404", "discard:no", "snooze:60"])
def test_errors_unrelated_to_the_dependency_do_not_count(
    hand: Hand, redis_client: redis.Redis, step: str
) -> None:
    for _ in range(3):
        partner.using(max_attempts=1).enqueue(steps=[step])
        hand.run()
    assert not redis_client.exists(BREAKER)


@pytest.mark.parametrize("step", ["raise:TimeoutError:slow", "status:503", "status:429"])
def test_outages_count(hand: Hand, redis_client: redis.Redis, step: str) -> None:
    for _ in range(2):
        partner.using(max_attempts=1).enqueue(steps=[step])
        hand.run()
    assert redis_client.exists(BREAKER)


def test_old_failures_do_not_count(hand: Hand, redis_client: redis.Redis) -> None:
    partner.using(max_attempts=1).enqueue(steps=DOWN)
    hand.run()
    failures = keys.failures("b:partner")
    member = redis_client.zrange(failures, 0, -1)[0]
    redis_client.zincrby(failures, -61, member)
    partner.using(max_attempts=1).enqueue(steps=DOWN)
    hand.run()
    assert not redis_client.exists(BREAKER)


def test_opened_and_closed_by_hand(hand: Hand, redis_client: redis.Redis) -> None:
    operations.trip_breaker("partner", reason="maintenance")
    handles = partner.enqueue_bulk([{}] * 2)
    assert hand.claim() is None
    for gate in redis_client.zrange(GATES, 0, -1):
        redis_client.zadd(GATES, {gate: 0})
    assert hand.claim() is None, "no probe: a person says when"
    assert operations.reset_breaker("partner")
    assert [hand.take().id for _ in range(2)] == [str(handle) for handle in handles]
    assert not operations.reset_breaker("partner")
    assert [entry.target_id for entry in AuditEntry.objects.order_by("pk")][:2] == [
        "partner",
        "partner",
    ]


def test_opened_by_hand_while_a_probe_runs(hand: Hand, redis_client: redis.Redis) -> None:
    probe, _ = probing(hand, redis_client)
    operations.trip_breaker("partner")
    hand.settle(probe, OK)
    assert redis_client.exists(BREAKER) and hand.claim() is None


def test_an_open_breaker_causes_no_busy_loop(hand: Hand, redis_client: redis.Redis) -> None:
    picky.enqueue(steps=["raise:KeyError:it"])
    hand.run()
    picky.enqueue_bulk([{}] * 1_000)
    answers = [hand.claimer.claim() for _ in range(3)]
    assert not any(answer.claim for answer in answers)
    assert (answers[-1].next_due or 0) > 20
    assert len(parked(redis_client, "b:picky")) == 1_000


def test_emptying_redis_closes_it(hand: Hand, redis_client: redis.Redis) -> None:
    """The state is lost: the jobs run, and the breaker opens again if they fail."""
    from wellos_jobs.maintenance.relay import Rebuild

    probing(hand, redis_client)
    Books().fold()
    redis_client.flushall()
    after = Hand(name="after")
    rebuild = Rebuild("default", after.queues, after.connection)
    while rebuild.step():
        pass
    assert after.claim() and after.claim() and after.claim()
