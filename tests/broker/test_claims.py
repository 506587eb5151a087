"""Claim and settle: which worker gets which job, and that no lost call loses or doubles one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from rq.suspension import resume as rq_resume
from rq.suspension import suspend as rq_suspend

from wellos_jobs import JobHandle, JobState, Priority, enqueue_bulk
from wellos_jobs.broker import job_hash, keys, queues
from wellos_jobs.broker.claims import Outcome, QueueSetUnknown, rescue
from wellos_jobs.enqueueing import control
from wellos_jobs.enqueueing.enqueue import JobOptions
from wellos_jobs.enqueueing.push import push as push_rows

from ..jobs import noop
from ..support.engine import Hand, event_names, stream, work
from ..support.processes import wait_until
from ..support.round_trips import RoundTrips

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture
def push(django_capture_on_commit_callbacks: Any) -> Callable[..., list[JobHandle]]:
    """``push("a", "b", queue=...)``: enqueue jobs with these values."""

    def put(*values: object, **options: Any) -> list[JobHandle]:
        with django_capture_on_commit_callbacks(execute=True):
            return enqueue_bulk(
                [("test-echo", {"value": value}, JobOptions(**options)) for value in values]
            )

    return put


Push = Callable[..., list[JobHandle]]


def value_of(hand: Hand) -> Any:
    """Claim one job and return its value; None if there is none."""
    claim = hand.claim()
    return (
        None
        if claim is None
        else claim.data.decode().partition('"value":')[2].rstrip("}]").strip('"')
    )


def values(hand: Hand, count: int) -> list[Any]:
    return [value_of(hand) for _ in range(count)]


# --- order ----------------------------------------------------------------------------------------


def test_urgent_lanes_come_first_and_each_lane_is_first_in_first_out(push: Push) -> None:
    for priority in (
        Priority.BULK,
        Priority.LOW,
        Priority.NORMAL,
        Priority.HIGH,
        Priority.CRITICAL,
    ):
        push(f"{priority.name}-1", f"{priority.name}-2", priority=priority)
    assert values(Hand("default"), 11) == [
        *("CRITICAL-1", "CRITICAL-2", "HIGH-1", "HIGH-2", "NORMAL-1", "NORMAL-2"),
        *("LOW-1", "LOW-2", "BULK-1", "BULK-2", None),
    ]


def test_priority_comes_before_the_order_of_queues_and_that_before_age(push: Push) -> None:
    push("slow", queue="slow")
    push("email", queue="email")
    push("slow-urgent", queue="slow", priority=Priority.HIGH)
    assert values(Hand("email", "slow"), 3) == ["slow-urgent", "email", "slow"]


def test_two_workers_may_order_the_same_queues_differently(push: Push) -> None:
    push("a", "b", queue="email")
    push("c", "d", queue="slow")
    one, other = Hand("email", "slow", name="one"), Hand("slow", "email", name="other")
    assert [value_of(one), value_of(other), value_of(one), value_of(other)] == ["a", "c", "b", "d"]


def test_a_worker_takes_only_from_its_queues(push: Push) -> None:
    push("x", queue="email")
    assert value_of(Hand("slow")) is None


def test_one_claim_in_16_takes_the_longest_waiting_job(push: Push) -> None:
    push("bulk-1", "bulk-2", "bulk-3", priority=Priority.BULK)
    push("low", priority=Priority.LOW)
    push(*range(60), priority=Priority.HIGH)
    taken = values(Hand("default"), 64)
    assert [taken.index(name) + 1 for name in ("bulk-1", "bulk-2", "bulk-3")] == [16, 32, 48]
    assert taken.index("low") + 1 == 64
    assert [name for name in taken if name.isdigit()] == list(map(str, range(60)))


def test_the_fair_turn_looks_at_the_age_of_the_oldest_job_not_of_the_lane(push: Push) -> None:
    hand = Hand("default")
    push("low-old", priority=Priority.LOW)
    assert value_of(hand) == "low-old"  # the lane is empty again; the next job in it is young
    push("bulk", priority=Priority.BULK)
    push("low-young", priority=Priority.LOW)
    push(*range(20), priority=Priority.HIGH)
    assert "bulk" in values(hand, 15)


# --- paused, suspended, dead entries --------------------------------------------------------------


def test_a_paused_queue_is_skipped_until_it_is_resumed(push: Push) -> None:
    hand = Hand("email", "slow")
    push("email-1", queue="email")
    queues.pause("email", "deploy")
    assert queues.counts("email").paused
    push("email-2", queue="email", priority=Priority.CRITICAL)
    push("slow", queue="slow")
    assert values(hand, 2) == ["slow", None]
    assert queues.counts("email").waiting == 2
    assert queues.resume("email") is True
    assert hand.is_bell_rung()
    assert values(hand, 3) == ["email-2", "email-1", None]
    assert queues.resume("email") is False


def test_a_worker_started_while_a_queue_is_paused_gets_its_jobs_after_the_resume(
    push: Push,
) -> None:
    queues.pause("email")
    push("x", queue="email")
    hand = Hand("email")
    assert value_of(hand) is None
    queues.resume("email")
    assert value_of(hand) == "x"


def test_rq_s_suspension_is_obeyed(push: Push) -> None:
    push("x")
    hand = Hand("default")
    rq_suspend(hand.connection)
    assert value_of(hand) is None
    rq_resume(hand.connection)
    assert value_of(hand) == "x"


def test_list_entries_are_hints_and_dead_ones_are_dropped(
    push: Push, redis_client: redis.Redis
) -> None:
    gone, canceled, moved, good = push("gone", "canceled", "moved", "good")
    redis_client.delete(keys.job(gone))
    redis_client.hset(keys.job(canceled), "status", "canceled")
    redis_client.hset(keys.job(moved), "status", "started")
    redis_client.rpush(keys.lane("default"), str(good))  # a second time
    hand = Hand("default")
    assert values(hand, 2) == ["good", None]
    assert not redis_client.exists(
        keys.lane("default"), keys.ready(hand.queue_set), keys.age(hand.queue_set)
    )


def test_more_dead_entries_than_one_call_may_drop_block_no_job(
    push: Push, redis_client: redis.Redis
) -> None:
    redis_client.rpush(keys.lane("default"), *(f"dead-{number}" for number in range(1_200)))
    push("good")
    hand = Hand("default")
    answer = hand.claimer.claim()
    assert (answer.claim, answer.next_due) == (None, 0.0)  # ask again at once
    assert work("default", name="burst").jobs_done == 1


# --- numbering: a call that is sent again ---------------------------------------------------------


def test_a_resent_claim_gets_the_same_job(push: Push) -> None:
    first, second = push("a", "b")
    hand = Hand("default")
    answer = hand.claimer.claim()
    assert answer.claim is not None and answer.claim.id == str(first)
    assert hand.claimer.repeat_claim() == answer == hand.claimer.repeat_claim()
    assert hand.take().id == str(second)
    assert event_names(first) == ["enqueued", "started"]


def test_a_resent_claim_that_got_no_job_gets_none(push: Push) -> None:
    hand = Hand("default")
    assert hand.claimer.claim().claim is None
    push("late")
    assert hand.claimer.repeat_claim().claim is None
    assert value_of(hand) == "late"


def test_a_resent_settle_counts_once_and_claims_once(push: Push, redis_client: redis.Redis) -> None:
    first, second, third = push("a", "b", "c")
    hand = Hand("default")
    claim = hand.take()
    outcome = Outcome("completed", 0.5, result="1")
    answer = hand.claimer.settle(claim, outcome, claim_next=True)
    again = hand.claimer.repeat_settle(claim, outcome, claim_next=True)
    assert (
        answer == again
        and answer.settled
        and answer.claim is not None
        and answer.claim.id == str(second)
    )
    assert event_names(first) == ["enqueued", "started", "completed"]
    assert third.state is JobState.WAITING
    facts = redis_client.hgetall(keys.worker("hand"))
    assert (facts[b"successful_job_count"], float(facts[b"total_working_time"])) == (b"1", 0.5)


def test_a_claim_resent_after_its_lease_does_not_get_the_run_of_another_worker(
    push: Push, redis_client: redis.Redis
) -> None:
    """Else two workers would run one job under one claim and settle each other's runs."""
    (handle,) = push("a")
    late, other = Hand("default", name="late"), Hand("default", name="other")
    late.take()
    redis_client.zadd(keys.LEASES, {str(handle): 1})
    rescue(redis_client, "crashed", "its worker stopped renewing the lease")
    answer = late.claimer.repeat_claim()
    assert (answer.claim, answer.next_due) == (
        None,
        0.0,
    )  # it waits: ask again at once, under a new number
    claim = other.take()
    assert late.claimer.repeat_claim().claim is None
    assert other.settle(claim, Outcome("completed", result="1"))


def test_a_settle_resent_after_a_lease_does_not_get_the_run_of_another_worker(
    push: Push, redis_client: redis.Redis
) -> None:
    first, second = push("a", "b")
    late, other = Hand("default", name="late"), Hand("default", name="other")
    claim, outcome = late.take(), Outcome("completed", result="1")
    assert late.claimer.settle(claim, outcome, claim_next=True).claim is not None
    redis_client.zadd(keys.LEASES, {str(second): 1})
    rescue(redis_client, "crashed", "its worker stopped renewing the lease")
    assert other.take().id == str(second)
    answer = late.claimer.repeat_settle(claim, outcome, claim_next=True)
    assert (answer.settled, answer.claim, answer.next_due) == (True, None, 0.0)
    assert event_names(first) == ["enqueued", "started", "completed"]


def test_calls_of_a_new_process_of_the_same_name_are_not_repeats(push: Push) -> None:
    push("a", "b")
    assert [value_of(Hand("default", name="same")), value_of(Hand("default", name="same"))] == [
        "a",
        "b",
    ]


def test_an_unregistered_queue_set_differs_from_an_empty_queue(
    redis_client: redis.Redis,
) -> None:
    hand = Hand("default")
    redis_client.flushall()
    with pytest.raises(QueueSetUnknown):
        hand.claim()


# --- the claim and who holds it -------------------------------------------------------------------


def test_a_claim_moves_the_job_under_a_lease_in_one_step(
    push: Push, redis_client: redis.Redis
) -> None:
    [handle] = push("a")
    before = float(".".join(map(str, redis_client.time())))
    claim = Hand("default", name="w").take()
    assert not redis_client.exists(keys.lane("default"))
    lease = redis_client.zscore(keys.LEASES, str(handle))
    assert before + 19 < lease < before + 21.5
    assert redis_client.zrange(keys.wip("default"), 0, -1) == [f"{handle}:{claim.run}".encode()]
    fields = {
        name.decode(): value.decode()
        for name, value in redis_client.hgetall(keys.job(handle)).items()
    }
    assert (fields["status"], fields["worker_name"], fields[job_hash.RUN]) == (
        "started",
        "w",
        claim.run,
    )
    worker = redis_client.hgetall(keys.worker("w"))
    assert (worker[b"current_job"], worker[b"state"]) == (str(handle).encode(), b"busy")
    assert (claim.attempt, claim.generation, claim.database, claim.name) == (
        1,
        0,
        "default",
        "test-echo",
    )
    assert claim.since is not None and before - 5 < claim.since < before + 1


def test_the_setting_says_how_long_a_lease_lasts(
    push: Push, redis_client: redis.Redis, settings: Any
) -> None:
    settings.WELLOS_JOBS = {"LEASE": 100}
    [handle] = push("a")
    Hand("default").take()
    assert redis_client.zscore(keys.LEASES, str(handle)) > time.time() + 90


def test_a_stale_run_changes_nothing(push: Push, redis_client: redis.Redis) -> None:
    [handle] = push("a")
    slow, quick = Hand("default", name="slow"), Hand("default", name="quick")
    stale = slow.take()
    assert [job.ending for job in rescue(slow.connection, "crashed", "gone", worker="slow")] == [
        "waiting"
    ]
    held = quick.take()
    before = redis_client.hgetall(keys.job(handle))
    for kind in ("completed", "failed", "retried", "snoozed", "canceled", "handed_back"):
        assert slow.settle(stale, Outcome(kind, result="1")) is False
    assert slow.claimer.report_progress(stale, 50, "still here") is False
    assert redis_client.hgetall(keys.job(handle)) == before
    assert redis_client.zcard(keys.LEASES) == 1
    assert event_names(handle) == ["enqueued", "started", "rescued", "started"]
    assert quick.settle(held, Outcome("completed", result="2"))
    assert handle.result == 2


def test_a_stale_settle_still_claims_the_next_job(push: Push) -> None:
    push("a", "b")
    hand = Hand("default")
    stale = hand.take()
    rescue(hand.connection, "crashed", "gone", worker="hand")
    answer = hand.claimer.settle(stale, Outcome("completed"), claim_next=True)
    assert not answer.settled and answer.claim is not None and answer.claim.id == stale.id


# --- the bell -------------------------------------------------------------------------------------


def test_a_push_rings_once_and_a_claim_that_leaves_work_rings_again(
    push: Push, redis_client: redis.Redis
) -> None:
    one = Hand("default", name="one")
    push("a", "b", "c")
    bell = keys.bell(one.queue_set)
    for left in (True, True, False):
        assert redis_client.llen(bell) == 1  # one token, however many jobs were pushed
        redis_client.lpop(bell)  # an idle worker wakes
        assert value_of(one) is not None
        assert bool(redis_client.llen(bell)) is left
    push("d")
    assert redis_client.llen(bell) == 1


def test_every_queue_set_with_the_lane_is_rung(push: Push) -> None:
    one, both, other = (
        Hand("email", name="1"),
        Hand("slow", "email", name="2"),
        Hand("slow", name="3"),
    )
    push("a", queue="email")
    assert (one.is_bell_rung(), both.is_bell_rung(), other.is_bell_rung()) == (True, True, False)


def test_a_queue_set_without_workers_is_forgotten(push: Push, redis_client: redis.Redis) -> None:
    hand = Hand("default")
    redis_client.delete(keys.queue_set(hand.queue_set))  # as when its time to live is over
    push("a")
    assert not redis_client.exists(
        keys.sets_of("default"), keys.ready(hand.queue_set), keys.bell(hand.queue_set)
    )


# --- delayed jobs ---------------------------------------------------------------------------------


def test_a_claim_moves_due_jobs_and_returns_when_the_next_is_due(
    push: Push, redis_client: redis.Redis
) -> None:
    hand = Hand("default")
    [soon] = push("soon", delay=1)
    push("later", delay=30)
    answer = hand.claimer.claim()
    assert answer.claim is None and answer.next_due is not None and 0 < answer.next_due <= 1
    wait_until(lambda: redis_client.zscore(keys.DUE, str(soon)) < time.time())
    answer = hand.claimer.claim()
    assert answer.claim is not None and answer.claim.id == str(soon)
    answer = hand.claimer.claim()
    assert answer.claim is None and answer.next_due is not None and 15 < answer.next_due <= 30
    assert event_names(soon) == ["enqueued", "enqueued", "started"]
    assert redis_client.zcard(keys.scheduled("default")) == redis_client.zcard(keys.DUE) == 1


def test_a_delay_of_less_than_a_second_is_kept_and_not_cut_short(
    push: Push, redis_client: redis.Redis
) -> None:
    hand = Hand("default")
    started = time.time()
    push("soon", delay=0.3)
    score = redis_client.zscore(keys.DUE, redis_client.zrange(keys.DUE, 0, 0)[0])
    assert score == pytest.approx(started + 0.3, abs=0.25)
    wait_until(lambda: value_of(hand) == "soon", 10)
    assert time.time() - started >= 0.3


def test_a_delayed_job_that_becomes_the_next_one_wakes_an_idle_worker(
    push: Push, redis_client: redis.Redis
) -> None:
    hand = Hand("default")
    push("later", delay=60)
    redis_client.delete(keys.bell(hand.queue_set))
    push("latest", delay=90)
    assert not hand.is_bell_rung()
    push("sooner", delay=30)
    assert hand.is_bell_rung()


def test_a_due_job_goes_into_the_lane_of_its_priority(push: Push) -> None:
    hand = Hand("default")
    push("delayed", delay=0.01, priority=Priority.CRITICAL)
    push("waiting", priority=Priority.HIGH)
    wait_until(lambda: queues.counts("default").delayed == 0 or hand.supervise() is None, 5)
    assert values(hand, 2) == ["delayed", "waiting"]


def test_promote_lets_a_delayed_job_run_now(push: Push) -> None:
    [handle] = push("a", delay=600)
    hand = Hand("default")
    assert control.promote(handle.record()) is True
    assert hand.is_bell_rung() and handle.state is JobState.WAITING
    assert control.promote(handle.record()) is False
    assert value_of(hand) == "a"
    assert queues.counts("default").delayed == 0


# --- counts and costs -----------------------------------------------------------------------------


def test_counts_of_jobs_in_redis(push: Push) -> None:
    push("a", "b", queue="email")
    push("c", queue="email", priority=Priority.BULK)
    push("d", queue="email", delay=60)
    Hand("email").take()
    counts = queues.all_counts()
    assert (counts["email"].waiting, counts["email"].active, counts["email"].delayed) == (2, 1, 1)
    assert counts["email"].oldest_wait is not None and 0 <= counts["email"].oldest_wait < 60
    assert (counts["slow"].waiting, counts["slow"].oldest_wait, counts["slow"].paused) == (
        0,
        None,
        False,
    )


def test_a_job_in_steady_state_is_one_round_trip(push: Push, round_trips: RoundTrips) -> None:
    push(*range(50))
    hand = Hand("default")
    hand.run()  # from now on the server knows the scripts
    claim = hand.take()
    with round_trips.counting() as trips:
        for _ in range(40):
            answer = hand.claimer.settle(
                claim, Outcome("completed", result="null"), claim_next=True
            )
            assert answer.claim is not None
            claim = answer.claim
    assert trips == ["EVALSHA"] * 40


def test_a_worker_in_steady_state_needs_at_most_two_round_trips_a_job(
    push: Push, round_trips: RoundTrips
) -> None:
    push(*range(40))
    with round_trips.counting() as trips:
        worker = work("default")
    assert worker.jobs_done == 40
    assert len(trips) <= 40 + 10  # start and end of the worker cost the rest


def test_many_queues_do_not_make_a_claim_slower(
    push: Push, settings: Any, redis_client: redis.Redis
) -> None:
    names = [f"queue-{number}" for number in range(200)]
    settings.RQ_QUEUES = dict.fromkeys([*names, "default"], settings.RQ_QUEUES["default"])
    hand = Hand(*names, "default")
    push("first", queue="queue-199")
    push("second")
    redis_client.config_resetstat()
    assert values(hand, 2) == ["first", "second"]
    calls = redis_client.info("commandstats")
    assert (
        sum(
            stat["calls"]
            for name, stat in calls.items()
            if name not in {"cmdstat_evalsha", "cmdstat_info"}
        )
        < 120
    )


# --- cancel ---------------------------------------------------------------------------------------


def test_a_waiting_job_is_canceled_in_each_lane(push: Push, redis_client: redis.Redis) -> None:
    for priority in Priority:
        [handle] = push("x", priority=priority)
        assert handle.cancel() is True
        assert handle.state is JobState.CANCELED
        assert event_names(handle) == ["enqueued", "canceled"]
    assert queues.counts("default").waiting == 0
    assert redis_client.zcard(keys.canceled("default")) == 5
    assert value_of(Hand("default")) is None


def test_a_delayed_job_is_canceled(push: Push, redis_client: redis.Redis) -> None:
    [handle] = push("x", delay=60)
    assert handle.cancel()
    assert not redis_client.exists(keys.DUE, keys.scheduled("default"))
    assert not handle.cancel()  # it is final


def test_a_running_job_is_marked_and_its_supervisor_notified(
    push: Push, redis_client: redis.Redis
) -> None:
    [handle] = push("x")
    hand = Hand("default", name="w")
    claim = hand.take()
    with redis_client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("rq:pubsub:w")
        wait_until(lambda: listener.get_message(timeout=1) is None)
        assert handle.cancel() is True
        message = wait_until(lambda: listener.get_message(timeout=1))
    assert message["data"] == f'{{"command":"stop-job","job_id":"{handle}"}}'.encode() or str(
        handle
    ) in str(message)
    assert handle.state is JobState.ACTIVE
    assert [part.decode() for part in hand.supervise()[3:]] == [str(handle)]
    assert hand.settle(claim, Outcome("retried", after=1, message="x"))
    assert handle.state is JobState.CANCELED  # it is not tried again


def test_a_final_job_stays_as_it_is(push: Push) -> None:
    [handle] = push("x")
    Hand("default").run()
    assert handle.cancel() is False
    assert handle.state is JobState.COMPLETED


def test_a_job_unknown_to_redis_gets_a_tombstone_that_stops_a_late_push(
    redis_client: redis.Redis,
) -> None:
    handle = noop.enqueue()  # not committed, so not pushed
    assert handle.cancel()
    assert handle.state is JobState.CANCELED
    assert 86_000 < redis_client.ttl(keys.job(handle)) <= 86_400
    assert push_rows([handle.record()]) == 0
    assert value_of(Hand("default")) is None
    assert event_names(handle) == [
        "canceled",
        "canceled",
    ]  # the second when the row is surely there


def test_every_job_is_always_in_a_structure(push: Push, redis_client: redis.Redis) -> None:
    """After each step a job is in exactly one of: lanes, delayed, leases, final registries."""
    [handle] = push("x")
    hand = Hand("default")
    steps: list[Callable[[], Any]] = [
        lambda: hand.settle(hand.take(), Outcome("handed_back")),
        lambda: hand.settle(hand.take(), Outcome("snoozed", after=60)),
        lambda: control.promote(handle.record()),
        lambda: hand.settle(hand.take(), Outcome("retried", after=60)),
        lambda: control.promote(handle.record()),
        lambda: hand.take(),
        lambda: rescue(hand.connection, "crashed", "gone", worker="hand"),
        lambda: hand.settle(hand.take(), Outcome("failed", message="x")),
    ]
    for step in steps:
        step()
        job_id = str(handle)
        places = [
            *(
                lane
                for lane in keys.lanes("default")
                if job_id.encode() in redis_client.lrange(lane, 0, -1)
            ),
            *(
                key
                for key in (keys.DUE, keys.LEASES)
                if redis_client.zscore(key, job_id) is not None
            ),
            *(
                key("default")
                for key in (keys.failed, keys.finished)
                if redis_client.zscore(key("default"), job_id)
            ),
        ]
        assert len(places) == 1, places
    assert [event.event for event in stream()].count("failed") == 1
