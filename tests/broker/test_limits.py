"""Limits step by step: which job may start, which waits, which comes next.

With real workers: tests/enqueueing/test_coordination.py.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from wellos_jobs import JobHandle, Priority, operations, status
from wellos_jobs.broker import claims, keys, queues, source_client
from wellos_jobs.broker.claims import Claim, Outcome
from wellos_jobs.maintenance.relay import Rebuild
from wellos_jobs.models import JobRecord, Schedule
from wellos_jobs.schedules.ticks import tick

from ..jobs import noop
from ..support.engine import Books, CountingProxy, Hand, event_names, stream
from ..support.guarded_jobs import (
    double,
    heavy,
    keyed,
    light,
    limited,
    metered,
    per_account,
    per_organization,
    rated,
    single,
)
from ..support.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

DONE = Outcome("completed")
GATES = keys.GATES
METER = "r:meter/1000"


@pytest.fixture
def hand() -> Hand:
    return Hand()


def waiting(queue: str = "default") -> int:
    return queues.counts(queue).waiting


def parked(client: redis.Redis, limit: str) -> list[str]:
    """The ids parked at a limit, in line."""
    return [found.decode() for found in client.zrange(keys.parked(limit), 0, -1)]


def look_again(client: redis.Redis) -> None:
    """Make all gates due."""
    for gate in client.zrange(GATES, 0, -1):
        client.zadd(GATES, {gate: 0})


def is_job(claim: Claim | None, handle: JobHandle) -> bool:
    assert claim is not None
    return claim.id == str(handle)


# --- concurrency limits ---------------------------------------------------------------------------


def test_a_job_without_room_waits_and_comes_next(hand: Hand, redis_client: redis.Redis) -> None:
    first, second, third = single.enqueue(), single.enqueue(), single.enqueue()
    held = hand.take()
    assert is_job(held, first) and hand.claim() is None
    assert waiting() == 2 and second.state == third.state == "waiting"
    assert hand.settle(held, DONE)
    assert is_job(again := hand.claim(), second) and hand.claim() is None
    assert again is not None and again.attempt == 1
    hand.settle(again, DONE)
    assert is_job(hand.claim(), third)
    assert event_names(third) == ["enqueued", "started"]
    assert waiting() == 0 and parked(redis_client, "c:test-single") == []


def test_a_freed_slot_goes_to_the_next_in_the_same_round_trip(hand: Hand) -> None:
    single.enqueue()
    second = single.enqueue()
    held = hand.take()
    assert hand.claim() is None
    answer = hand.claimer.settle(held, DONE, claim_next=True)
    assert is_job(answer.claim, second)


def test_an_idle_worker_is_woken_when_there_is_room(hand: Hand) -> None:
    single.enqueue()
    single.enqueue()
    held = hand.take()
    assert hand.claim() is None
    hand.connection.delete(keys.bell(hand.queue_set))
    hand.settle(held, DONE)
    assert hand.is_bell_rung()


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("failed", message="no"),
        Outcome("retried", after=60),
        Outcome("snoozed", after=60),
        Outcome("canceled"),
        Outcome("handed_back"),
    ],
    ids=lambda outcome: outcome.kind,
)
def test_however_a_run_ends_its_slot_is_free(
    hand: Hand, outcome: Outcome, redis_client: redis.Redis
) -> None:
    single.enqueue()
    held = hand.take()
    single.enqueue()
    assert hand.claim() is None
    hand.settle(held, outcome)
    assert hand.claim() is not None
    assert hand.claim() is None
    assert redis_client.zcard(keys.running("c:test-single")) == 1


def neighbor(hand: Hand) -> Hand:
    """Another worker of the same queues: one that holds a job does not claim."""
    return Hand(*hand.queues, name="neighbor")


def test_owner_killed_while_holding_a_slot(hand: Hand) -> None:
    """The rescue frees the slot; the rescued job is at the front of the lane, so it goes first."""
    first, second = single.enqueue(), single.enqueue()
    assert is_job(hand.take(), first) and neighbor(hand).claim() is None
    claims.rescue(hand.connection, "crashed", "killed", worker=hand.name)
    ids = {str(first), str(second)}
    claim = hand.take()
    assert claim.id in ids and hand.claim() is None
    hand.settle(claim, DONE)
    assert {claim.id, hand.take().id} == ids


def test_owners_machine_dies_and_the_lease_runs_out(hand: Hand, redis_client: redis.Redis) -> None:
    first, second = single.using(max_attempts=1).enqueue(), single.enqueue()
    assert hand.claim() and hand.claim() is None
    assert claims.rescue(hand.connection, "crashed", "no beat") == []
    redis_client.zadd(keys.LEASES, {str(first): 1})
    assert [found.ending for found in claims.rescue(hand.connection, "crashed", "no beat")] == [
        "failed"
    ]
    assert is_job(hand.claim(), second)


def test_owner_killed_in_its_last_attempt(hand: Hand) -> None:
    single.using(max_attempts=1).enqueue()
    second = single.enqueue()
    assert hand.claim() and neighbor(hand).claim() is None
    claims.rescue(hand.connection, "crashed", "killed", worker=hand.name)
    assert is_job(hand.claim(), second)


def test_a_stale_run_frees_no_slot(hand: Hand) -> None:
    single.enqueue()
    single.enqueue()
    stale = hand.take()
    assert neighbor(hand).claim() is None
    claims.rescue(hand.connection, "crashed", "killed", worker=hand.name)
    assert hand.claim() is not None
    assert not hand.settle(stale, DONE)
    assert hand.claim() is None


def test_a_slot_is_lost_with_its_hash_and_healed(hand: Hand, redis_client: redis.Redis) -> None:
    first, second = single.enqueue(), single.enqueue()
    held = hand.take()
    assert hand.claim() is None
    redis_client.delete(keys.job(first.id))
    assert not hand.settle(held, DONE)
    look_again(redis_client)
    assert is_job(hand.claim(), second)


def test_limit_lowered_while_full_and_raised_again(hand: Hand) -> None:
    double.enqueue_bulk([{}] * 6)
    first, second = hand.take(), hand.take()
    operations.set_limit("c:test-double", 1)
    hand.settle(first, DONE)
    assert hand.claim() is None, "one runs, and one may"
    hand.settle(second, DONE)
    third = hand.take()
    assert hand.claim() is None
    operations.set_limit("c:test-double", 3)
    assert hand.claim() and hand.claim() and hand.claim() is None
    operations.set_limit("c:test-double", None)
    hand.settle(third, DONE)
    assert hand.claim() is None, "two run, and two may"


def test_a_limit_of_zero_lets_nothing_start(hand: Hand, redis_client: redis.Redis) -> None:
    operations.set_limit("r:test-rated/0.4", 0)
    rated.enqueue()
    answer = hand.claimer.claim()
    assert answer.claim is None and answer.next_due is not None and answer.next_due > 1, (
        "no busy loop"
    )
    operations.set_limit("r:test-rated/0.4", None)
    assert hand.claim() is not None


# --- rate limits ----------------------------------------------------------------------------------


def test_starts_in_a_period(hand: Hand) -> None:
    handles = rated.enqueue_bulk([{}] * 8)
    starts: list[float] = []
    order: list[str] = []
    pauses: list[float | None] = []

    def all_started() -> bool:
        answer = hand.claimer.claim()
        if answer.claim is None:
            pauses.append(answer.next_due)
            return False

        starts.append(time.monotonic())
        order.append(answer.claim.id)
        hand.settle(answer.claim, DONE)
        return len(starts) == 8

    wait_until(all_started, 5)
    assert all(pause is not None and pause <= 0.41 for pause in pauses)
    assert order == [str(handle) for handle in handles]
    times = [
        event.at.timestamp() for event in stream() if event.event == "started"
    ]  # by the clock of Redis
    gaps = [later - earlier for earlier, later in zip(times, times[3:], strict=False)]
    assert min(gaps) > 0.395, gaps
    assert starts[-1] - starts[0] < 1.2, "and no later than they may"


def test_owner_killed_while_holding_a_start(hand: Hand) -> None:
    """A start counts even if its worker died, and the rescued job counts again."""
    metered.enqueue_bulk([{}] * 3)
    hand.take()
    claims.rescue(hand.connection, "crashed", "killed", worker=hand.name)
    assert hand.take().attempt == 2 and hand.take().attempt == 1
    assert hand.claim() is None, "three have started"


def test_release_after_expiry_gives_no_start_back(hand: Hand, redis_client: redis.Redis) -> None:
    """A run that outlasts the period: its end gives later jobs no further start."""
    metered.enqueue_bulk([{}] * 6)
    first = hand.take()
    redis_client.delete(keys.starts(METER))
    hand.names(3)
    assert hand.claim() is None
    hand.settle(first, DONE)
    look_again(redis_client)
    assert hand.claim() is None


def test_limit_lowered_while_full_of_starts(hand: Hand, redis_client: redis.Redis) -> None:
    metered.enqueue_bulk([{}] * 6)
    hand.names(3)
    assert hand.claim() is None
    operations.set_limit(METER, 1)
    assert hand.claim() is None
    redis_client.zremrangebyrank(keys.starts(METER), 0, 1)  # two of the three leave the period
    look_again(redis_client)
    assert hand.claim() is None, "one started, and one may"
    operations.set_limit(METER, 3)
    assert hand.claim() and hand.claim() and hand.claim() is None


def test_weights_count_and_a_heavy_job_is_not_overtaken_forever(hand: Hand) -> None:
    light.enqueue_bulk([{}] * 2)
    assert hand.names(2) == ["test-light"] * 2
    heavy.enqueue()
    assert hand.claim() is None, "two and three are more than four"
    light.enqueue_bulk([{}] * 12)
    assert wait_until(hand.claim, 5).name == "test-heavy", "what came later waits behind it"
    assert wait_until(hand.claim, 3).name == "test-light"
    assert hand.claim() is None


def test_a_job_heavier_than_a_lowered_limit_blocks_no_other(hand: Hand) -> None:
    operations.set_limit("r:scales/0.4", 2)
    heavy.enqueue()
    light.enqueue_bulk([{}] * 3)
    assert hand.names(2) == ["test-light"] * 2
    assert hand.claim() is None
    assert wait_until(hand.claim, 3).name == "test-light"
    operations.set_limit("r:scales/0.4", None)
    assert wait_until(hand.claim, 3).name == "test-heavy"


# --- several limits, keys -------------------------------------------------------------------------


def test_both_limits_hold(hand: Hand) -> None:
    limited.enqueue_bulk([{}] * 30)
    begun = time.monotonic()
    held = [hand.take(), hand.take()]
    assert hand.claim() is None
    for _ in range(4):
        for claim in held:
            hand.settle(claim, DONE)
        held = [hand.take(), hand.take()]
    for claim in held:
        hand.settle(claim, DONE)
    if time.monotonic() - begun < 0.9:
        assert hand.claim() is None, "ten have started in this second"


def test_a_job_that_another_limit_holds_leaves_its_room_to_the_next(hand: Hand) -> None:
    """Two at once, one per account: a slot that one account cannot use goes to another at once."""
    for account in ("a", "b", "a", "a", "c"):
        per_account.enqueue(account=account)
    first, second = hand.take(), hand.take()
    assert hand.claim() is None
    hand.settle(second, DONE)  # b's: next in line are two of a, which a's own limit holds
    third = hand.take()
    assert b'"account":"c"' in third.data.replace(b" ", b"")
    hand.settle(first, DONE)
    assert b'"account":"a"' in hand.take().data.replace(b" ", b"")
    assert hand.claim() is None


def test_a_default_fills_a_field_of_the_key(hand: Hand) -> None:
    per_account.enqueue()
    record = JobRecord.objects.get()
    assert [limit["id"] for limit in record.context["limits"]] == ["c:accounts", "c:account:main"]


def test_keys_by_organization_and_by_function(hand: Hand) -> None:
    for organization in ("acme", "acme", "bolt"):
        per_organization.using(organization=organization).enqueue()
    assert [hand.take().organization_id for _ in range(2)] == ["acme", "bolt"]
    assert hand.claim() is None
    for word in ("ant", "ape", "bee"):
        keyed.enqueue(word=word)
    assert hand.take() and hand.take() and hand.claim() is None


def test_jobs_of_a_schedule_are_limited_too(hand: Hand) -> None:
    from django.utils import timezone

    now = timezone.now()
    for name in ("one", "two"):
        Schedule.objects.create(
            name=name, job_name="test-single", cron="* * * * *", time_zone="UTC", next_run_at=now
        )
    assert tick("default", now) == 2
    assert hand.claim() and hand.claim() is None


# --- parked jobs, and what people do --------------------------------------------------------------


def test_parked_job_canceled(hand: Hand, redis_client: redis.Redis) -> None:
    single.enqueue()
    second, third = single.enqueue(), single.enqueue()
    held = hand.take()
    assert hand.claim() is None
    assert second.cancel()
    assert waiting() == 1 and parked(redis_client, "c:test-single") == [str(third)]
    hand.settle(held, DONE)
    assert is_job(hand.claim(), third)


def test_parked_jobs_emptied(hand: Hand, redis_client: redis.Redis) -> None:
    handles = single.enqueue_bulk([{}] * 4)
    held = hand.take()
    assert hand.claim() is None
    redis_client.delete(keys.job(handles[-1].id))  # by foreign code
    assert operations.empty_queue("default") == 2
    assert waiting() == 0
    hand.settle(held, DONE)
    assert hand.claim() is None
    assert [handle.state for handle in handles[:3]] == ["completed", "canceled", "canceled"]


def test_parked_job_deleted_by_foreign_code_counts_no_longer(
    hand: Hand, redis_client: redis.Redis
) -> None:
    handles = single.enqueue_bulk([{}] * 3)
    held = hand.take()
    assert hand.claim() is None and waiting() == 2
    redis_client.delete(keys.job(handles[1].id))
    hand.settle(held, DONE)
    assert is_job(hand.claim(), handles[2]) and waiting() == 0
    assert redis_client.keys("rq:wellos:parked*") == []


def test_parked_job_deleted_and_pushed_again_counts_once(
    hand: Hand, redis_client: redis.Redis
) -> None:
    """It was moved to another queue meanwhile: its old place in line and in the counts is gone."""
    first, second = single.enqueue(), single.enqueue()
    held = hand.take()
    assert is_job(held, first) and hand.claim() is None
    redis_client.delete(keys.job(second.id))
    operations.move(second.record(), "email")
    Books().fold()
    rebuild = Rebuild("default", hand.queues, source_client("default", "work"))
    while rebuild.step():
        pass
    assert hand.claim() is None and (waiting(), waiting("email")) == (0, 1)
    hand.settle(held, DONE)
    assert is_job(hand.claim(), second) and (waiting(), waiting("email")) == (0, 0)
    assert redis_client.keys("rq:wellos:parked*") == []


def test_parked_job_moved_to_another_queue_and_priority(hand: Hand) -> None:
    books = Books()
    single.enqueue()
    second, third = single.enqueue(), single.enqueue()
    held = hand.take()
    assert hand.claim() is None
    operations.move(books.row(third), "email")
    operations.change_priority(books.row(third), Priority.CRITICAL)
    assert (waiting(), waiting("email")) == (1, 1)
    assert hand.claim() is None
    hand.settle(held, DONE)
    claim = hand.take()
    assert is_job(claim, third) and claim.queue == "email"
    hand.settle(claim, DONE)
    assert is_job(hand.claim(), second)


def test_parked_jobs_of_a_paused_queue_block_no_other(hand: Hand) -> None:
    """They share a limit with jobs of another queue, and are ahead of them in line."""
    held_in = single.using(queue="email").enqueue()
    paused = [single.using(queue="reports").enqueue() for _ in range(3)]
    other = single.using(queue="email").enqueue()
    held = hand.take()
    assert is_job(held, held_in) and hand.claim() is None
    operations.pause_queue("reports")
    hand.settle(held, DONE)
    claim = hand.take()
    assert is_job(claim, other)
    hand.settle(claim, DONE)
    assert hand.claim() is None and waiting("reports") == 3
    operations.resume_queue("reports")
    assert is_job(hand.claim(), paused[0]) and hand.claim() is None


def test_parked_jobs_count_as_waiting(hand: Hand) -> None:
    single.enqueue_bulk([{}] * 3)
    assert hand.take() and hand.claim() is None
    counted = queues.counts("default")
    assert (counted.waiting, counted.active) == (2, 1)
    assert counted.oldest_wait is not None and 0 <= counted.oldest_wait < 10
    metrics = status.metrics(["default"])["default"]
    assert metrics["waiting"] == 2


def test_the_most_urgent_parked_job_comes_first(hand: Hand) -> None:
    single.enqueue()
    held = hand.take()
    normal = single.enqueue()
    assert hand.claim() is None
    urgent = single.using(priority=Priority.HIGH).enqueue()
    assert hand.claim() is None
    hand.settle(held, DONE)
    claim = hand.take()
    assert is_job(claim, urgent)
    hand.settle(claim, DONE)
    assert is_job(hand.claim(), normal)


def test_redis_emptied_with_parked_jobs(hand: Hand, redis_client: redis.Redis) -> None:
    """The rows are pushed again; the limit holds for them as before."""
    handles = single.enqueue_bulk([{}] * 3)
    assert hand.take() and hand.claim() is None
    Books().fold()
    redis_client.flushall()
    after = Hand(name="after")
    rebuild = Rebuild("default", after.queues, source_client("default", "work"))
    while rebuild.step():
        pass
    ran = []
    for _ in handles:
        claim = after.take()
        assert after.claim() is None
        after.settle(claim, DONE)
        ran.append(claim.id)
    assert sorted(ran) == sorted(map(str, handles))


# --- what it costs --------------------------------------------------------------------------------


def test_a_thousand_jobs_at_a_full_limit_cost_nothing(use_redis: Any) -> None:
    """Each is parked once; a worker without a job sleeps for seconds."""
    from django.conf import settings

    with CountingProxy(settings.REDIS_URL) as proxy:
        use_redis(proxy.url)
        with proxy.counting() as pushes:
            single.enqueue_bulk([{}] * 1_000)
        assert len(pushes) <= 8, pushes
        hand = Hand()
        held = hand.take()
        asked = 0
        answer = hand.claimer.claim()
        while answer.claim is None and not answer.next_due:
            asked += 1
            answer = hand.claimer.claim()
        assert answer.claim is None and asked <= 3, asked
        assert answer.next_due is not None and answer.next_due > 4
        assert waiting() == 999
        with proxy.counting() as trips:
            assert hand.claimer.settle(held, DONE, claim_next=True).claim is not None
        assert len(trips) == 1


def test_a_limit_adds_no_round_trip(hand: Hand, round_trips: Any) -> None:
    costs = {}
    for job in (noop, single):
        with round_trips.counting() as trips:
            job.enqueue()
            hand.settle(hand.take(), DONE)
        costs[job.name] = len(trips)
    assert (
        costs["test-single"] == costs["test-noop"] == 3
    )  # push, claim, settle: these two apart here


def test_a_thousand_parked_jobs_all_run_in_order(hand: Hand) -> None:
    handles = single.enqueue_bulk([{}] * 1_000)
    claim, order = hand.take(), []
    while claim is not None:
        order.append(claim.id)
        claim = hand.claimer.settle(claim, DONE, claim_next=True).claim  # type: ignore[assignment]
    assert order == [str(handle) for handle in handles]
