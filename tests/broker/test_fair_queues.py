"""Fair queues: organizations take turns, however many jobs one of them has."""

from __future__ import annotations

from typing import Any

import django_rq
import pytest
import redis

from wellos_jobs import Priority, operations
from wellos_jobs.broker import keys, queues
from wellos_jobs.broker.rq_queue import LaneQueue

from ..jobs import noop
from ..support.engine import Hand

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fair(settings: object) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "FAIR_QUEUES": ["default"]}  # type: ignore[attr-defined]


def enqueue(organization: str, count: int) -> list[str]:
    return [str(h) for h in noop.using(organization=organization).enqueue_bulk([{}] * count)]


def turns(hand: Hand, count: int) -> list[str]:
    return [hand.take().organization_id for _ in range(count)]


def test_a_small_organization_is_among_the_first_few(redis_client: redis.Redis) -> None:
    enqueue("big", 1_000)
    enqueue("small", 5)
    taken = turns(Hand("default"), 15)
    assert [place for place, name in enumerate(taken, 1) if name == "small"] == [6, 8, 10, 12, 14]


def test_a_small_organization_starts_within_the_first_40_behind_2_000(
    redis_client: redis.Redis,
) -> None:
    """And a claim costs no more than with few waiting. With 100,000: benchmarks/coordination.py."""
    hand, costs = Hand("default"), []
    for waiting in (200, 2_000):
        enqueue("big", waiting)
        before = commands(redis_client)
        turns(hand, 50)
        costs.append(commands(redis_client) - before)
    assert costs[1] <= costs[0] * 1.1, costs
    enqueue("small", 10)
    assert turns(hand, 40).count("small") == 10


def commands(client: redis.Redis) -> int:
    """The number of commands that Redis has executed, including those in scripts."""
    return sum(row["calls"] for row in client.info("commandstats").values())


def test_three_organizations_take_turns_and_each_keeps_its_order(redis_client: redis.Redis) -> None:
    waiting = {name: enqueue(name, 4) for name in ("a", "b", "c")}
    hand = Hand("default")
    claims = [hand.take() for _ in range(12)]
    assert sorted(claim.id for claim in claims) == sorted(
        one for ids in waiting.values() for one in ids
    )
    for name, ids in waiting.items():
        assert [claim.id for claim in claims if claim.organization_id == name] == ids
    assert {claim.organization_id for claim in claims[4:7]} == {"b", "c"} | {
        claims[4].organization_id
    }


def test_a_late_organization_need_not_and_may_not_catch_up(redis_client: redis.Redis) -> None:
    enqueue("a", 50)
    hand = Hand("default")
    turns(hand, 20)
    enqueue("b", 50)
    taken = turns(hand, 30)[4:]
    assert abs(taken.count("a") - taken.count("b")) <= 1


def test_the_priority_comes_before_the_turn(redis_client: redis.Redis) -> None:
    enqueue("big", 20)
    noop.using(organization="other", priority=Priority.HIGH).enqueue()
    assert turns(Hand("default"), 1) == ["other"]


def test_counts_and_rq_see_all_of_them(redis_client: redis.Redis) -> None:
    ids = enqueue("big", 30) + enqueue("small", 1)
    queue = django_rq.get_queue("default")
    assert isinstance(queue, LaneQueue)
    assert queues.counts("default").waiting == queue.count == 31
    assert sorted(queue.get_job_ids()) == sorted(ids)
    assert queue.get_job_ids(3, 4) == queue.get_job_ids()[3:7]
    assert queue.get_job_position(queue.get_job_ids()[20]) == 20


def test_a_job_that_waits_for_its_turn_is_canceled_moved_and_emptied(
    redis_client: redis.Redis,
) -> None:
    handles = noop.using(organization="big").enqueue_bulk([{}] * 20)
    handles[15].cancel()
    operations.move(handles[16].record(), "low")
    assert queues.counts("default").waiting == 18
    assert operations.empty_queue("default") == 18
    assert [handle.state for handle in handles if handle.state != "canceled"] == ["waiting"]


def test_nothing_is_left_of_the_turns_when_all_have_been_taken(redis_client: redis.Redis) -> None:
    enqueue("big", 20)
    turns(Hand("default"), 20)
    assert redis_client.keys(f"{keys.OWN}turns:*") == []


@pytest.mark.parametrize("is_paused", [False, True], ids=["open", "paused"])
def test_nothing_is_left_of_the_turns_when_all_have_left(
    redis_client: redis.Redis, is_paused: bool
) -> None:
    """One is canceled, one moved and the rest emptied, while no worker claims from the queue."""
    handles = noop.using(organization="big").enqueue_bulk([{}] * 10)
    urgent = noop.using(organization="big", priority=Priority.HIGH).enqueue()
    moved = noop.using(organization="big", priority=Priority.LOW).enqueue()
    if is_paused:
        operations.pause_queue("default")
    urgent.cancel()
    operations.move(moved.record(), "low")
    assert operations.empty_queue("default") == len(handles)
    assert redis_client.keys(f"{keys.OWN}turns:*") == []


def test_a_queue_that_is_no_longer_fair_serves_waiting_jobs(
    redis_client: redis.Redis, settings: object
) -> None:
    enqueue("big", 20)
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "FAIR_QUEUES": []}  # type: ignore[attr-defined]
    queues.announce_fair("default")
    enqueue("late", 5)
    assert turns(Hand("default"), 25).count("late") == 5


def test_an_unknown_queue_is_refused(settings: object) -> None:
    from wellos_jobs import conf

    settings.WELLOS_JOBS = {"FAIR_QUEUES": ["defualt"]}  # type: ignore[attr-defined]
    assert list(conf.problems()) == [
        "WELLOS_JOBS['FAIR_QUEUES'] is ['defualt']: RQ_QUEUES has no queue 'defualt': "
        "did you mean 'default'?"
    ]


def test_jobs_waiting_for_a_turn_are_not_overtaken_when_the_queue_is_no_longer_fair(
    settings: Any,
) -> None:
    """Later jobs must not overtake them forever."""
    first = enqueue("big", 20)
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "FAIR_QUEUES": []}
    queues.announce_fair("default")
    hand, taken = Hand("default"), []
    for _ in range(40):  # two come for each that goes
        enqueue("later", 2)
        taken.append(hand.take().id)
    assert set(first) <= set(taken)


def test_jobs_ahead_of_one_that_waits_for_its_turn(redis_client: redis.Redis) -> None:
    Hand("default")
    redis_client.sadd(f"{keys.WORKERS}:default", "rq:worker:hand")
    last = [noop.using(organization="big").enqueue() for _ in range(20)][-1]
    assert last.explain() == "It waits for a free worker: 19 jobs of default come before it."
