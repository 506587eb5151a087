"""Acts on queues, on where a job waits, on limits and breakers: on the real engine, each with its
audit entry."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.contrib.auth import get_user_model
from django.utils import timezone

from wellos_jobs import Priority, operations
from wellos_jobs.broker import keys, queues, rq_queue
from wellos_jobs.enqueueing import control
from wellos_jobs.errors import InvalidOperation, RedisUnavailable, UnknownQueue
from wellos_jobs.models import AuditEntry, JobRecord

from ..jobs import noop
from ..support.engine import Books, Hand, work
from ..support.guarded_jobs import single
from ..support.servers import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)


def entries() -> list[tuple[str, str, str, str, str]]:
    fields = ("action", "target_type", "target_id", "reason", "actor_name")
    return list(AuditEntry.objects.order_by("pk").values_list(*fields))


def test_pause_and_resume_a_queue(redis_client: redis.Redis) -> None:
    person = get_user_model().objects.create(username="ada")
    noop.enqueue()
    operations.pause_queue("default", by=person, reason="maintenance")
    assert queues.counts("default").paused
    operations.resume_queue("default", by=person)
    assert not queues.counts("default").paused
    assert entries() == [
        ("paused", "queue", "default", "maintenance", "ada"),
        ("resumed", "queue", "default", "", "ada"),
    ]


def test_resuming_a_queue_that_is_not_paused_is_refused(
    redis_client: redis.Redis,
) -> None:
    with pytest.raises(InvalidOperation, match="Queue default is not paused"):
        operations.resume_queue("default")
    assert entries() == []


def test_a_long_queue_is_emptied_in_steps(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One script for 100,000 jobs would hold Redis up for longer than clients wait for an
    answer."""
    monkeypatch.setattr(rq_queue, "EMPTY_CHUNK", 10)
    noop.enqueue_bulk([{}] * 20)
    noop.using(priority=Priority.BULK).enqueue_bulk([{}] * 5)
    before = int(redis_client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])
    assert operations.empty_queue("default") == 25
    assert int(redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]) - before >= 3
    assert queues.counts("default").waiting == 0


def test_an_unknown_queue_is_named_with_the_near_miss(redis_client: redis.Redis) -> None:
    with pytest.raises(UnknownQueue, match="did you mean 'default'"):
        operations.pause_queue("defualt")


def test_emptying_cancels_waiting_jobs_only(redis_client: redis.Redis) -> None:
    waiting = [noop.enqueue(), noop.using(priority=Priority.BULK).enqueue()]
    later = noop.using(delay=60).enqueue()
    assert operations.empty_queue("default", reason="wrong import") == 2
    assert [handle.state for handle in [*waiting, later]] == ["canceled", "canceled", "delayed"]
    assert AuditEntry.objects.get().detail == {"canceled": 2}


def test_the_priority_of_a_waiting_job_changes(redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    record = operations.change_priority(
        handle.record(), Priority.CRITICAL, reason="the customer waits"
    )
    assert record.priority == JobRecord.objects.get().priority == Priority.CRITICAL
    assert redis_client.lrange(keys.lane("default", Priority.CRITICAL), 0, -1) == [
        str(handle).encode()
    ]
    assert redis_client.llen(keys.lane("default")) == 0


def test_a_delayed_job_moves_with_its_time(redis_client: redis.Redis) -> None:
    handle = noop.using(delay=60).enqueue()
    due = redis_client.zscore(keys.DUE, str(handle))
    operations.move(handle.record(), "low")
    assert redis_client.zscore(keys.scheduled("low"), str(handle)) == due
    assert redis_client.zscore(keys.scheduled("default"), str(handle)) is None
    assert JobRecord.objects.get().queue == "low"


def test_a_final_job_is_not_moved(redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    handle.cancel()
    with pytest.raises(InvalidOperation, match="only a job that has not started can be changed"):
        operations.move(handle.record(), "low")
    assert JobRecord.objects.get().queue == "default"
    assert entries() == []


def test_a_final_job_unknown_to_redis_is_not_moved(redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    work()
    Books().fold()
    redis_client.delete(keys.job(str(handle)))
    with pytest.raises(
        InvalidOperation, match="is completed: only a job that has not started can be changed"
    ):
        operations.move(handle.record(), "low")
    assert JobRecord.objects.get().queue == "default"


def test_a_blocked_job_is_moved_and_runs_there_once_released(redis_client: redis.Redis) -> None:
    first = noop.enqueue()
    blocked = noop.using(depends_on=[first]).enqueue()
    operations.move(blocked.record(), "low")
    work("default")
    Books().fold()
    assert redis_client.lrange(keys.lane("low"), 0, -1) == [str(blocked).encode()]
    work("low")
    assert blocked.state == "completed"


def test_a_job_parked_at_a_limit_leaves_its_line(redis_client: redis.Redis) -> None:
    first, parked = single.enqueue(), single.enqueue()
    hand = Hand("default")
    claim = hand.take()
    assert claim.id == str(first)
    assert hand.claim() is None
    operations.move(parked.record(), "low")
    assert redis_client.lrange(keys.lane("low"), 0, -1) == [str(parked).encode()]
    hand.run(claim)
    assert hand.claim() is None, "it is no longer in this queue"
    assert Hand("low").take().id == str(parked)


def test_a_plain_rq_job_is_neither_moved_nor_promoted(redis_client: redis.Redis) -> None:
    foreign = JobRecord.objects.create(
        name="x.y", queue="default", rq_id="theirs", state="delayed", created_at=timezone.now()
    )
    for step in (lambda: operations.move(foreign, "low"), lambda: operations.promote(foreign)):
        with pytest.raises(InvalidOperation, match="was enqueued by plain RQ code"):
            step()
    foreign.refresh_from_db()
    assert foreign.queue == "default"
    assert entries() == []


def test_moves_that_race_with_claims(redis_client: redis.Redis) -> None:
    """Each job is claimed once: from the queue that its row says, if the move was in time, else it
    is not moved."""
    handles = noop.enqueue_bulk([{}] * 60)
    claimed: dict[str, str] = {}

    def claim_all(queue: str) -> None:
        hand = Hand(queue, name=f"hand-{queue}")
        while len(claimed) < len(handles):
            if claim := hand.claim():
                assert claim.id not in claimed
                claimed[claim.id] = claim.queue

    with ThreadPoolExecutor(2) as pool:
        claims = [pool.submit(claim_all, queue) for queue in ("default", "low")]
        report = operations.move_many(JobRecord.objects.all(), "low")
        for each in claims:
            each.result(30)
    assert report.done + len(report.refused) == 60
    assert all("has not started" in text for text in report.refused)
    rows = {str(row.pk): row.queue for row in JobRecord.objects.all()}
    assert claimed == rows
    assert (
        list(rows.values()).count("low")
        == report.done
        == AuditEntry.objects.filter(action="moved").count()
    )


def test_jobs_that_do_not_change_keep_their_position(redis_client: redis.Redis) -> None:
    first, second = noop.enqueue_bulk([{}] * 2)
    operations.change_priority(second.record(), Priority.HIGH)
    report = operations.change_priority_many(JobRecord.objects.all(), Priority.NORMAL)
    assert report.done == 1
    assert report.refused == [f"{first.record()} has this priority already"]
    moved = operations.move_many([first.record()], "default")
    assert (moved.done, moved.refused) == (0, [f"{first.record()} is in queue default already"])
    with pytest.raises(UnknownQueue):
        operations.move_many([first.record()], "defualt")
    with pytest.raises(ValueError, match="42"):
        operations.change_priority_many([first.record()], 42)


def test_the_rest_is_skipped_once_redis_is_down(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    noop.using(delay=60).enqueue_bulk([{}] * 3)
    tried: list[object] = []

    def away(record: JobRecord) -> bool:
        tried.append(record)
        raise redis.ConnectionError("away")

    monkeypatch.setattr(control, "promote", away)
    report = operations.promote_many(JobRecord.objects.all())
    assert (len(tried), report.done, report.messages) == (
        1,
        0,
        ["Redis is unavailable: 3 were not tried"],
    )
    assert entries() == []


def test_a_delayed_job_is_promoted_and_a_waiting_one_is_not(redis_client: redis.Redis) -> None:
    later, now = noop.using(delay=60).enqueue(), noop.enqueue()
    operations.promote(later.record())
    assert later.state == "waiting"
    with pytest.raises(InvalidOperation, match="is not delayed"):
        operations.promote(now.record())


def test_a_limit_is_set_and_restored(redis_client: redis.Redis) -> None:
    operations.set_limit("c:quickbooks", 5)
    assert redis_client.hgetall(keys.LIMITS) == {b"c:quickbooks": b"5"}
    operations.set_limit("c:quickbooks", None)
    assert redis_client.hgetall(keys.LIMITS) == {}


@pytest.mark.parametrize(
    ("limit", "most"), [("quickbooks", 5), ("c:quickbooks", -1), ("c:quickbooks", True)]
)
def test_an_invalid_limit_is_refused(limit: str, most: int) -> None:
    with pytest.raises(ValueError, match=r"is not the name of a limit|must be a whole number"):
        operations.set_limit(limit, most)


def test_a_breaker_is_tripped_and_reset(redis_client: redis.Redis) -> None:
    assert operations.trip_breaker("quickbooks", reason="they announced it")
    assert redis_client.exists(keys.breaker("b:quickbooks"))
    assert operations.reset_breaker("quickbooks")
    assert not operations.reset_breaker("quickbooks")
    assert [action for action, *_ in entries()] == [
        "tripped breaker",
        "reset breaker",
        "reset breaker",
    ]


def test_nothing_is_recorded_while_redis_is_down(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill9()
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(RedisUnavailable, match="nothing was changed"):
        operations.pause_queue("default")
    assert entries() == []
