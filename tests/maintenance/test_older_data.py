"""A Redis with older data, or with holes in it: the rows correct it, and it ends what they cannot
know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_rq
import pytest
import redis
from django.utils import timezone

from wellos_jobs import JobHandle
from wellos_jobs import broker as wellos_redis
from wellos_jobs.broker import events, keys, server_identity
from wellos_jobs.broker.claims import Outcome
from wellos_jobs.maintenance import stale_jobs
from wellos_jobs.maintenance.housekeeping import Housekeeping
from wellos_jobs.maintenance.relay import Rebuild
from wellos_jobs.models import DeadLetter, JobAttempt, JobRecord, LedgerCursor
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.queues import LaneQueue

from ..jobs import fail, foreign_add, noop, scripted
from ..support.engine import EPOCH, Books, Hand, event_names
from ..support.guarded_jobs import single
from ..support.rows import row, statistics

pytestmark = pytest.mark.django_db(databases=["default", "other"])
SERVED = ["default", "email"]
FAR_AHEAD = "9999999999999-0"


@pytest.fixture
def push(django_capture_on_commit_callbacks: Any) -> Callable[..., JobHandle]:
    def put(job: Any = noop, **data: Any) -> JobHandle:
        with django_capture_on_commit_callbacks(execute=True):
            handle: JobHandle = job.enqueue(**data)
        return handle

    return put


Push = Callable[..., JobHandle]


def corrected(client: redis.Redis) -> None:
    for _ in stale_jobs.correct("default", SERVED, client):
        pass


def rebuilt(books: Books) -> None:
    rebuild = Rebuild("default", SERVED, books.connection, books.ledger.close)
    while rebuild.step():
        pass


def end_row(handle: JobHandle, state: str) -> None:
    """End a row as if by events that this Redis no longer has."""
    JobRecord.objects.filter(pk=handle.id).update(state=state, finished_at=timezone.now())


# --- the rows know better -------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["completed", "failed", "canceled"])
def test_a_job_that_has_ended_leaves_redis(
    push: Push, books: Books, redis_client: redis.Redis, state: str
) -> None:
    """Waiting, delayed or running; others stay. It ends without an event."""
    waiting, kept = push(), push()
    delayed = push(scripted.using(delay=600))
    running = push(noop.using(priority=1))
    hand = Hand("default")
    assert hand.take().id == str(running)
    books.fold()
    for handle in (waiting, delayed, running):
        end_row(handle, state)

    corrected(redis_client)
    assert redis_client.lrange(keys.lane("default"), 0, -1) == [str(kept).encode()]
    assert not redis_client.exists(keys.DUE, keys.LEASES, keys.wip("default"))
    assert 0 < redis_client.ttl(keys.job(waiting.id)) <= 60
    assert event_names(waiting) == ["enqueued"]
    assert hand.take().id == str(kept)


def test_the_slot_of_a_run_that_has_ended_is_free(
    push: Push, books: Books, redis_client: redis.Redis
) -> None:
    held, waiting = push(single), push(single)
    hand = Hand("default")
    assert hand.take().id == str(held)
    assert Hand("default", name="second").claim() is None
    books.fold()
    end_row(held, "completed")
    corrected(redis_client)
    assert Hand("default", name="second").take().id == str(waiting)


def test_a_life_before_a_replay_has_ended(
    push: Push, books: Books, redis_client: redis.Redis
) -> None:
    """Redis has the job as it was before it failed: its replay is pushed again."""
    handle = push()
    books.fold()
    JobRecord.objects.filter(pk=handle.id).update(replays=1, enqueued_at=timezone.now())
    corrected(redis_client)
    assert Hand("default").claim() is None
    rebuilt(books)
    assert Hand("default").take().generation == 1


def test_a_row_that_has_ended_stays_so(
    push: Push, books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    """Its job was run again all the same, as when the database was away: that changes no row, makes
    no second letter and counts for nothing."""
    handle = push(fail)
    books.fold()
    end_row(handle, "canceled")
    Hand("default").run()
    assert books.row(handle).state == "canceled"
    assert not DeadLetter.objects.exists() and not JobAttempt.objects.exists()
    assert statistics("test-fail") == {"enqueued": 1}
    assert "was run again after its end" in caplog.text


def test_a_second_failure_in_one_life_makes_no_second_letter(push: Push, books: Books) -> None:
    """A failed job was enqueued again through RQ."""
    handle = push(fail)
    Hand("default").run()
    books.fold()
    queue = django_rq.get_queue("default", queue_class=LaneQueue)
    queue.failed_job_registry.requeue(str(handle))
    Hand("default").run()
    assert books.row(handle).state == "failed"
    assert DeadLetter.objects.filter(status="open").count() == 1


# --- the stream from its start --------------------------------------------------------------------


def test_events_before_the_cursor_are_applied_once(
    push: Push, books: Books, redis_client: redis.Redis
) -> None:
    """The cursor is ahead of a new primary, which also tells again what the rows know."""
    first = push()
    failing = push(scripted.using(max_attempts=2), steps=["retry:600"])
    hand = Hand("default")
    hand.run()
    hand.run()
    books.fold()
    known = statistics("test-noop"), statistics()
    LedgerCursor.objects.update(position=FAR_AHEAD)
    books.ledger.open(EPOCH)
    second = push()
    hand.run()
    assert books.fold() == 0 and row(second).enqueued_at is None

    books.ledger.open(EPOCH, "another run")
    assert books.ledger.is_new_run
    books.fold()
    assert [row(handle).state for handle in (first, second)] == ["completed", "completed"]
    assert row(failing).state == "delayed" and JobAttempt.objects.count() == 1
    twice = {name: 2 * number for name, number in known[0].items()}
    assert (statistics("test-noop"), statistics()) == (twice, known[1])


def test_a_server_run_is_read_from_the_start_until_it_is_accepted(push: Push, books: Books) -> None:
    push()
    books.fold()
    for _ in range(2):
        books.ledger.open(EPOCH, "another run")
        assert books.ledger.is_new_run and books.ledger.position == events.START
    books.ledger.accept("another run")
    books.fold()
    books.ledger.open(EPOCH, "another run")
    assert not books.ledger.is_new_run and books.ledger.position != events.START
    books.ledger.doubt()
    books.ledger.open(EPOCH, "another run")
    assert books.ledger.is_new_run and books.ledger.position == events.START


# --- lost ends ------------------------------------------------------------------------------------


def test_an_open_row_ends_as_its_job_did(
    push: Push, books: Books, redis_client: redis.Redis
) -> None:
    """Its last event was lost; the hash has the result or the error."""
    done, failed, running = push(scripted, steps=["result:kept"]), push(fail), push()
    hand = Hand("default")
    hand.run()
    hand.run()
    hand.take()
    redis_client.xtrim(keys.EVENTS, maxlen=0)
    rebuilt(books)

    assert (books.row(done).state, row(done).result) == ("completed", "kept")
    assert (row(failed).state, row(failed).error) == ("failed", "broken")
    assert DeadLetter.objects.get().job_id == failed.id
    assert row(running).state == "waiting"
    assert redis_client.ttl(keys.job(done.id)) > 0


def test_an_event_that_is_on_its_way_is_waited_for(push: Push, books: Books) -> None:
    handle = push(fail)
    books.fold()
    rebuild = Rebuild("default", SERVED, books.connection, books.ledger.close)
    Hand("default").run()
    rebuild.step()
    books.fold()
    rebuild.step()
    assert row(handle).state == "failed"
    assert DeadLetter.objects.get().error_class == "ValueError"
    assert JobAttempt.objects.count() == 1


def test_a_lost_job_of_plain_rq_code_ends_as_lost(
    books: Books, redis_client: redis.Redis, settings: Any
) -> None:
    """Its row is history only and cannot be pushed again. One that Redis still has goes on."""
    settings.RQ = {**settings.RQ, "COMMIT_MODE": "auto"}
    queue = django_rq.get_queue("default", queue_class=LaneQueue)
    lost, kept = queue.enqueue(foreign_add, 1), queue.enqueue(foreign_add, 2)
    books.fold()
    redis_client.delete(keys.job(lost.id))
    rebuilt(books)
    found = {one.rq_id: one for one in JobRecord.objects.all()}
    assert (found[lost.id].state, found[kept.id].state) == ("failed", "waiting")
    assert "lost with the data of Redis" in found[lost.id].error
    assert DeadLetter.objects.get().reason == "lost"
    assert not JobAttempt.objects.exists()


def test_a_deleted_hash_comes_back_within_the_hour(
    push: Push,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle = push()
    keeping = Housekeeping("default", Slot())
    monkeypatch.setattr(keeping, "_wait", lambda: None)
    for _ in range(3):
        keeping.round()
    redis_client.delete(keys.job(handle.id), keys.lane("default"))
    keeping.round()
    assert not redis_client.exists(keys.job(handle.id))

    keeping.intervals.make_due("rebuild")
    keeping.round()
    keeping.round()
    assert Hand("default").take().id == str(handle)


# --- who may claim --------------------------------------------------------------------------------


def test_workers_claim_from_a_new_server_run_when_it_is_trusted(
    push: Push, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    push()
    wellos_redis.run(redis_client, "trust", "the run before")
    hand = Hand("default")
    monkeypatch.setattr(hand.claimer, "connection", wellos_redis.source_client("default", "claim"))
    hand.claimer.connection.connection_pool.disconnect()
    with pytest.raises(server_identity.OtherServerRun):
        hand.claim()

    keeping = Housekeeping("default", Slot())
    monkeypatch.setattr(keeping, "_wait", lambda: None)
    keeping.round()
    assert hand.claimer.repeat_claim().claim is not None


def test_workers_do_not_wait_forever_for_a_database_that_is_away(redis_client: redis.Redis) -> None:
    wellos_redis.run(redis_client, "trust", "the run before")
    assert wellos_redis.run(redis_client, "trusted", "this run", 15) == 0
    assert wellos_redis.run(redis_client, "trusted", "this run", 15) == 0
    redis_client.hincrbyfloat(keys.TRUSTED, "since", -16)
    assert wellos_redis.run(redis_client, "trusted", "this run", 15) == 2
    assert wellos_redis.run(redis_client, "trusted", "the run before", 15) == 1


def test_an_empty_redis_has_nothing_to_compare(redis_client: redis.Redis) -> None:
    assert wellos_redis.run(redis_client, "trusted", "this run", 15) == 1


def test_the_ledger_writes_to_the_server_run_that_was_looked_at(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would trim the stream of a new primary before it has read that."""
    client = wellos_redis.source_client("default", "ledger")
    monkeypatch.setitem(server_identity._expected, "default", "the run before")
    client.connection_pool.disconnect()
    with pytest.raises(server_identity.OtherServerRun):
        events.trim(client, "1-0")
    server_identity.expect("default", server_identity.identity(redis_client))
    events.trim(client, "1-0")


def test_a_settle_that_was_lost_is_repeated(push: Push, books: Books) -> None:
    """Nothing of all this is in the way of a job that runs while Redis is another server."""
    handle, hand = push(), Hand("default")
    claim = hand.take()
    corrected(hand.connection)
    assert hand.settle(claim, Outcome("completed", result="1"))
    assert books.row(handle).state == "completed"
