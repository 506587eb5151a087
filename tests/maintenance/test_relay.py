"""Relay and rebuild: rows that Redis does not know are pushed, once, and only while that is surely
right."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import JobHandle, JobState, Priority, operations
from wellos_jobs.broker import job_hash, keys
from wellos_jobs.broker.claims import Outcome
from wellos_jobs.enqueueing.push import push
from wellos_jobs.maintenance import relay
from wellos_jobs.maintenance.per_database import DatabaseMaintenance
from wellos_jobs.maintenance.relay import Rebuild
from wellos_jobs.models import JobRecord

from ..jobs import fail, noop, scripted
from ..support.engine import EPOCH, Books, Hand, event_names
from ..support.processes import wait_until
from ..support.rows import row, statistics

BOTH = ["default", "other"]
pytestmark = pytest.mark.django_db(databases=BOTH)
SERVED = ["default", "email"]


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def commit(django_capture_on_commit_callbacks: Any) -> Callable[..., Any]:
    return lambda using="default": django_capture_on_commit_callbacks(using=using, execute=True)


def never_pushed(**options: Any) -> JobHandle:
    """Make a row whose process died between commit and push, a while ago."""
    handle = noop.using(**options).enqueue()
    JobRecord.objects.using(handle.database).filter(pk=handle.id).update(
        created_at=timezone.now() - timedelta(seconds=10)
    )
    return handle


def relayed(client: redis.Redis, database: str = "default") -> int:
    return relay.relay(database, SERVED, client)


def rebuilt(client: redis.Redis, database: str = "default") -> int:
    """Rebuild to the end; return how many were pushed."""
    rebuild = Rebuild(database, SERVED, client)
    while rebuild.step():
        pass
    return rebuild.pushed


@pytest.fixture
def keeper(books: Books) -> DatabaseMaintenance:
    """At the stream's end, and with nothing to rebuild."""
    keeper = DatabaseMaintenance("default", "default", SERVED, books.connection)
    keeper.drain(EPOCH, lambda: None)
    keeper.heal()
    assert not keeper.is_busy
    keeper.pulse(0.0, 1000.0)
    return keeper


def test_an_older_beat_in_redis_starts_one_comparison(keeper: DatabaseMaintenance) -> None:
    keeper.pulse(900.0, 1005.0)
    assert not keeper.is_compared
    keeper.drain(EPOCH, lambda: None)
    assert keeper.is_compared and keeper.is_busy
    keeper.heal()
    keeper.pulse(1005.0, 1010.0)
    assert keeper.is_compared and not keeper.is_busy


def test_a_redis_clock_set_back_starts_no_rebuild(keeper: DatabaseMaintenance) -> None:
    """Else all open rows would be looked through, again and again, until the clock has caught
    up."""
    for before, now in ((1000.0, 405.0), (405.0, 410.0), (410.0, 415.0)):
        keeper.pulse(before, now)
        assert not keeper.is_busy


# --- relay ----------------------------------------------------------------------------------------


def test_a_row_that_was_never_pushed_is_pushed_once(redis_client: redis.Redis) -> None:
    handle = never_pushed(priority=Priority.HIGH)
    assert relayed(redis_client) == 1
    assert relayed(redis_client) == 0
    assert redis_client.lrange(keys.lane("default", Priority.HIGH), 0, -1) == [str(handle).encode()]
    Books().fold()
    with CaptureQueriesContext(connection) as queries:
        assert relayed(redis_client) == 0
    assert len(queries) == 1
    assert Hand("default").run().kind == "completed"


def test_a_new_row_is_left_to_its_own_process(redis_client: redis.Redis) -> None:
    noop.enqueue()
    assert relayed(redis_client) == 0


def test_a_row_of_a_machine_whose_clock_is_ahead_does_not_wait_for_that_time(
    redis_client: redis.Redis,
) -> None:
    handle = noop.enqueue()
    JobRecord.objects.update(created_at=timezone.now() + timedelta(hours=1))
    assert relayed(redis_client) == 1
    assert event_names(handle) == ["enqueued"]


def test_a_push_after_the_relay_changes_nothing(redis_client: redis.Redis) -> None:
    handle = never_pushed()
    late = row(handle)
    assert relayed(redis_client) == 1
    assert push([late]) == 0
    assert event_names(handle) == ["enqueued"]
    assert redis_client.llen(keys.lane("default")) == 1


def test_a_delayed_row_keeps_its_time_and_an_overdue_one_waits(redis_client: redis.Redis) -> None:
    later = never_pushed(delay=3600)
    overdue = never_pushed(run_at=timezone.now() + timedelta(seconds=0.01))
    wait_until(lambda: row(overdue).run_at < timezone.now(), 5)
    assert relayed(redis_client) == 2
    assert redis_client.zscore(keys.DUE, str(later)) == pytest.approx(
        row(later).run_at.timestamp(), abs=1e-5
    )
    assert (later.state, overdue.state) == (JobState.DELAYED, JobState.WAITING)


def test_only_served_queues_of_the_relay_s_database(
    redis_client: redis.Redis,
) -> None:
    elsewhere = never_pushed(queue="slow")
    theirs = never_pushed(database="other")
    assert relayed(redis_client) == 0
    assert relayed(redis_client, "other") == 1
    assert redis_client.hget(keys.job(theirs), job_hash.DATABASE) == b"other"
    assert not redis_client.exists(keys.job(elsewhere))


def test_a_canceled_row_is_not_pushed_and_its_tombstone_repeats_the_event(
    redis_client: redis.Redis,
) -> None:
    handle = never_pushed()
    books = Books()
    handle.cancel()
    redis_client.delete(keys.EVENTS)  # folded before the row was committed, so in vain
    assert relayed(redis_client) == 0
    assert event_names(handle) == ["canceled"]
    assert books.row(handle).state == JobState.CANCELED
    assert relayed(redis_client) == 0
    assert Hand("default").claim() is None


def test_a_push_of_outdated_rows_is_refused(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = never_pushed()
    with pytest.raises(redis.ResponseError, match="LATE"):
        push([row(handle)], deadline=f"{time.time() - 1:.6f}")
    monkeypatch.setattr(relay, "STALE_AFTER", -1.0)
    assert relayed(redis_client) == 0
    assert "1 rows were read too long ago to be pushed: reading again" in caplog.text
    monkeypatch.undo()
    assert relayed(redis_client) == 1


def test_a_lost_replay_is_rebuilt_although_redis_has_the_job_before_it(
    redis_client: redis.Redis, commit: Callable[..., Any]
) -> None:
    """A failover went back to before a replay: the old hash would live for a minute, and the replay
    be lost."""
    with commit():
        handle = fail.enqueue()
    Hand("default").run()
    books = Books()
    books.fold()
    before = redis_client.dump(keys.job(handle))
    with commit():
        operations.retry(row(handle))
    books.fold()
    JobRecord.objects.exclude(pk=handle.id).delete()  # the notice of the letter
    redis_client.delete(*keys.lanes("default"))
    redis_client.restore(keys.job(handle), 60_000, before, replace=True)

    assert rebuilt(redis_client) == 1
    assert handle.state == JobState.WAITING
    assert rebuilt(redis_client) == 0


def test_a_replay_that_was_never_pushed_is_pushed(
    redis_client: redis.Redis, commit: Callable[..., Any]
) -> None:
    with commit():
        handle = fail.enqueue()
    Hand("default").run()
    books = Books()
    books.fold()
    operations.retry(row(handle))  # its process dies before the push
    JobRecord.objects.exclude(pk=handle.id).delete()  # the notice of the letter
    JobRecord.objects.update(created_at=timezone.now() - timedelta(seconds=10))
    assert relayed(redis_client) == 1
    assert event_names(handle) == ["enqueued", "started", "failed", "replayed"]
    assert books.row(handle).state == JobState.WAITING
    assert statistics("test-fail")["enqueued"] == 1


def test_many_rows_are_pushed_in_chunks_oldest_first(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "CHUNK", 3)
    monkeypatch.setattr(relay, "MOST_CHUNKS", 2)
    handles = [never_pushed() for _ in range(8)]
    assert relayed(redis_client) == 6
    pushed = [job_id.decode() for job_id in redis_client.lrange(keys.lane("default"), 0, -1)]
    assert pushed == [str(handle) for handle in handles[:6]]
    Books().fold()
    assert relayed(redis_client) == 2


def test_rows_of_plain_rq_jobs_are_never_pushed(redis_client: redis.Redis) -> None:
    old = timezone.now() - timedelta(seconds=60)
    JobRecord.objects.create(name="a.b", queue="default", rq_id="theirs", created_at=old)
    assert relayed(redis_client) == rebuilt(redis_client) == 0


# --- rebuild --------------------------------------------------------------------------------------


def test_every_open_job_that_redis_lost_is_restored(
    redis_client: redis.Redis, commit: Callable[..., Any]
) -> None:
    with commit():
        waiting, active, delayed, done = (
            noop.enqueue(),
            scripted.enqueue(steps=["result:x"]),
            noop.using(delay=3600).enqueue(),
            noop.enqueue(),
        )
        retried = scripted.enqueue(steps=["status:503:600"])
    hand = Hand("default")
    hand.settle(hand.take(), Outcome("handed_back"))
    first, second, third = hand.take(), hand.take(), hand.take()
    assert (first.id, second.id, third.id) == (str(waiting), str(active), str(done))

    hand.settle(first, Outcome("handed_back"))
    hand.run(third)
    hand.run(hand.take())
    hand.run(hand.take())
    Books().fold()
    states = {handle: row(handle).state for handle in (waiting, active, delayed, done, retried)}
    redis_client.flushall()
    redis_client.set(keys.EPOCH, "new")
    open_rows = [handle for handle, state in states.items() if not JobState(state).is_final]
    assert rebuilt(redis_client) == len(open_rows)
    assert {handle for handle in states if redis_client.exists(keys.job(handle))} == set(open_rows)
    assert active.state is JobState.WAITING and delayed.state is retried.state is JobState.DELAYED
    assert (
        int(redis_client.hget(keys.job(active), job_hash.ATTEMPT)) == 1
    )  # the attempt it was in counts
    assert rebuilt(redis_client) == 0


def test_a_job_that_was_promoted_is_not_delayed_again(
    redis_client: redis.Redis, commit: Callable[..., Any]
) -> None:
    with commit():
        promoted, retried = (
            noop.using(delay=3600).enqueue(),
            scripted.enqueue(steps=["status:503:600"]),
        )
    hand = Hand("default")
    hand.run()
    books = Books()
    for handle in (promoted, retried):
        operations.promote(books.row(handle))
    held = hand.take()
    assert {books.row(promoted).state, books.row(retried).state} == {
        JobState.ACTIVE,
        JobState.WAITING,
    }

    redis_client.flushall()
    assert rebuilt(redis_client) == 2
    assert promoted.state is retried.state is JobState.WAITING, held.name


def test_jobs_that_redis_has_are_not_pushed(
    redis_client: redis.Redis, commit: Callable[..., Any]
) -> None:
    with commit():
        handle = noop.enqueue()
    claim = Hand("default").take()
    before = redis_client.hgetall(keys.job(handle))
    Books().fold()
    assert rebuilt(redis_client) == 0
    assert redis_client.hgetall(keys.job(handle)) == before and claim.attempt == 1


def test_a_rebuild_works_in_chunks(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(relay, "CHUNK", 2)
    for _ in range(5):
        never_pushed()
    assert rebuilt(redis_client) == 5
    assert redis_client.llen(keys.lane("default")) == 5
    assert "rebuild: 5 open jobs of default were missing in Redis" in caplog.text


def test_a_chunk_that_was_too_slow_is_repeated(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_pushed()
    rebuild = Rebuild("default", SERVED, redis_client)
    monkeypatch.setattr(relay, "STALE_AFTER", -1.0)
    assert rebuild.step() is True
    monkeypatch.undo()
    assert rebuild.step() is True
    assert (rebuild.step(), rebuild.pushed) == (False, 1)
