"""Recovery: databases that are away under load, ledgers that meet, die between two steps, or cannot
take an event."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from datetime import timedelta

import django_rq
import pytest
import redis
from django.utils import timezone
from rq.registry import FinishedJobRegistry

from wellos_jobs.broker import keys
from wellos_jobs.ledger.ledger import FORGET_AFTER
from wellos_jobs.maintenance import held_rows
from wellos_jobs.maintenance.per_database import DatabaseMaintenance
from wellos_jobs.models import DeadLetter, JobAttempt, JobRecord

from ..jobs import foreign_add, noop, scripted
from ..support.engine import EPOCH, Books, Hand
from ..support.journal import Journal
from ..support.outages import DatabaseOutage
from ..support.processes import Fleet
from ..support.rows import all_have_state, attempts, has_state, row, statistics

LOAD = 200
in_two_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def completed() -> int:
    return JobRecord.objects.filter(name="test-scripted", state="completed").count()


def test_database_unreachable_for_a_while(
    processes: Fleet, journal: Journal, database_outage: DatabaseOutage, redis_client: redis.Redis
) -> None:
    """Workers go on, a dead one's job is rescued; then the rows catch up: none missing, nothing
    counted twice."""
    worker = processes.worker("--processes", "2")
    first = noop.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    steps = [
        ["sleep:0.01", *(["on:1:raise:ValueError:once"] if n % 10 == 0 else [])]
        for n in range(LOAD)
    ]
    handles = scripted.enqueue_bulk([{"steps": each, "journal": str(journal)} for each in steps])
    doomed = scripted.using(max_attempts=1).enqueue(steps=["raise:ValueError:doomed"])
    killer = scripted.using(max_attempts=2).enqueue(steps=["on:1:kill"])
    journal.wait_for_starts(20)
    with database_outage():
        worker.wait_for_output("housekeeping: database default is unavailable")
        journal.wait_for_ends(LOAD + LOAD // 10)
        waiting = [keys.job(handle.id) for handle in [*handles, doomed, killer]]
        finished = {b"finished", b"failed"}
        processes.wait_until(
            lambda: {redis_client.hget(key, "status") for key in waiting} == finished
        )
        assert completed() < LOAD
    processes.wait_until(lambda: completed() == LOAD + 1, 30)
    assert has_state(doomed, "failed")
    assert Counter(JobAttempt.objects.values_list("number", "outcome")) == {
        (1, "retried"): LOAD // 10,
        (1, "failed"): 1,
        (1, "crashed"): 1,
    }
    assert DeadLetter.objects.count() == 1

    runs = LOAD + LOAD // 10 + 3
    assert statistics() == {
        "enqueued": LOAD + 2,
        "started": runs,
        "completed": LOAD + 1,
        "retried": LOAD // 10,
        "failed": 1,
        "rescued": 1,
    }
    assert len(journal.starts()) == LOAD + LOAD // 10


def test_database_away_longer_than_any_time_to_live(
    processes: Fleet, journal: Journal, database_outage: DatabaseOutage, redis_client: redis.Redis
) -> None:
    """What has ended stays in Redis until the rows know of it, whoever cleans up or leads
    meanwhile: nothing reruns."""
    worker = processes.worker()
    first = noop.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    handles = scripted.enqueue_bulk([{"steps": ["sleep:0.01"], "journal": str(journal)}] * 50)
    with database_outage():
        worker.wait_for_output("housekeeping: database default is unavailable")
        journal.wait_for_ends(50)
        finished = FinishedJobRegistry("default", connection=redis_client)
        processes.wait_until(lambda: len(finished) >= 50)
        os.kill(housekeeper(worker.output()), signal.SIGKILL)
        processes.wait_until(lambda: worker.output().count("housekeeping started") == 2)
        started_again = worker.output().rpartition("housekeeping started")[0]
        processes.wait_until(lambda: "is unavailable" in worker.output()[len(started_again) :])
        finished.cleanup()
        kept = [handle for handle in handles if row(handle).state != "completed"]
        assert kept
        for handle in kept:
            assert redis_client.ttl(keys.job(handle.id)) == -1
            assert redis_client.zscore(keys.finished("default"), str(handle)) == keys.FAR
    processes.wait_until(lambda: all_have_state("completed", 51), 30)
    for handle in handles:
        processes.wait_until(
            lambda handle=handle: 0 < redis_client.ttl(keys.job(handle.id)) <= FORGET_AFTER
        )  # type: ignore[misc]

    assert len(journal.starts()) == 50
    assert statistics()["completed"] == 50


def housekeeper(log: str) -> int:
    """Return the process id of the latest housekeeping that a supervisor's log tells of."""
    return int(log.rpartition("housekeeping started, pid ")[2].split()[0])


def test_one_database_away_the_other_is_served(
    processes: Fleet, journal: Journal, database_outage: DatabaseOutage
) -> None:
    """Ledger and relay of a database do not wait for another one."""
    worker = processes.worker()
    first = noop.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    with database_outage():
        noop.using(database="other").enqueue()
        worker.wait_for_output("housekeeping: database default is unavailable")
        other = scripted.using(database="other").enqueue(journal=str(journal))
        processes.wait_until(lambda: has_state(other, "completed"), 10)
    again = noop.enqueue()
    processes.wait_until(lambda: has_state(again, "completed"))


def test_reaping_does_not_wait_for_a_database_that_hangs(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    """The housekeeping is stuck in a query for ever: the jobs of a dead machine are rescued all the
    same."""
    ghost = Hand(name="ghost")
    handle = scripted.enqueue()
    ghost.take()
    worker = processes.worker()
    os.kill(housekeeper(worker.wait_for_output("housekeeping started, pid ")), signal.SIGSTOP)
    redis_client.zadd(keys.LEASES, {str(handle): time.time() - 1})
    processes.wait_until(lambda: handle.state == "completed")
    assert handle.snapshot()["attempts"] == 2


def test_two_leaders_at_once(processes: Fleet, journal: Journal) -> None:
    """Three ledgers drain one stream in three processes: each event is folded exactly once."""
    keepers = [processes.start("-m", "tests.support.run_maintenance") for _ in range(2)]
    worker = processes.worker("--processes", "2")
    steps = [
        ["sleep:0.005", *(["on:1:raise:ValueError:once"] if n % 5 == 0 else [])]
        for n in range(LOAD)
    ]
    doomed = scripted.using(max_attempts=1).enqueue_bulk(
        [{"steps": ["raise:ValueError:doomed"]}] * 5
    )
    handles = [scripted.enqueue(steps=each, journal=str(journal)) for each in steps]
    processes.wait_until(lambda: completed() == LOAD, 40)
    processes.wait_until(lambda: all(has_state(handle, "failed") for handle in doomed))
    logs = "".join(process.output() for process in [worker, *keepers])
    assert "another process was faster" in logs, "they never met: this shows nothing"

    retried = LOAD // 5
    assert len(journal.starts()) == LOAD + retried
    assert Counter(JobAttempt.objects.values_list("outcome", flat=True)) == {
        "retried": retried,
        "failed": 5,
    }
    assert attempts(handles[0]) == [(1, "retried")]
    assert DeadLetter.objects.count() == 5
    assert statistics() == {
        "enqueued": LOAD + 5,
        "started": LOAD + retried + 5,
        "completed": LOAD,
        "retried": retried,
        "failed": 5,
    }


def test_ledger_killed_over_and_over(processes: Fleet, journal: Journal) -> None:
    """kill -9 of the housekeeping wherever it is: it starts again, and each event is folded exactly
    once."""
    worker = processes.worker("--processes", "2")
    steps = [
        ["sleep:0.01", *(["on:1:raise:ValueError:once"] if n % 10 == 0 else [])]
        for n in range(LOAD)
    ]
    scripted.enqueue_bulk([{"steps": each, "journal": str(journal)} for each in steps])
    for done in (20, 90, 160):
        journal.wait_for_ends(done)
        seen = worker.output().count("housekeeping started")
        os.kill(housekeeper(worker.output()), signal.SIGKILL)
        processes.wait_until(lambda seen=seen: worker.output().count("housekeeping started") > seen)  # type: ignore[misc]
    processes.wait_until(lambda: all_have_state("completed", LOAD), 30)
    retried = LOAD // 10

    assert JobAttempt.objects.count() == retried
    assert statistics() == {
        "enqueued": LOAD,
        "started": LOAD + retried,
        "completed": LOAD,
        "retried": retried,
    }
    assert len(journal.starts()) == LOAD + retried


@in_two_databases
def test_ended_jobs_left_by_a_killed_ledger_expire(redis_client: redis.Redis) -> None:
    """It died between its commit and the forgetting: the next clean-up makes up for it, for folded
    jobs only."""
    books, hand = Books(), Hand()
    folded, unfolded = noop.enqueue(), noop.enqueue()
    hand.run()
    books.fold()
    redis_client.persist(keys.job(folded.id))
    redis_client.zadd(keys.finished("default"), {str(folded): keys.FAR})
    keeper = DatabaseMaintenance("default", "default", hand.queues, hand.connection)
    keeper.drain(EPOCH, lambda: None)
    hand.run()
    keeper.prune()
    assert 0 < redis_client.ttl(keys.job(folded.id)) <= FORGET_AFTER
    assert redis_client.ttl(keys.job(unfolded.id)) == -1


@in_two_databases
def test_a_large_prune_does_not_hold_up_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows go one batch at a time, and events are folded in between."""
    monkeypatch.setattr(held_rows, "BATCH", 10)
    at = timezone.now() - timedelta(days=40)
    JobRecord.objects.bulk_create(
        JobRecord(name="old", queue="default", state="completed", created_at=at, finished_at=at)
        for _ in range(25)
    )
    hand = Hand()
    Books()
    keeper = DatabaseMaintenance("default", "default", hand.queues, hand.connection)
    keeper.drain(EPOCH, lambda: None)
    keeper.prune()
    left = []
    for _ in range(3):
        assert keeper.is_busy
        handle = noop.enqueue()
        keeper.drain(EPOCH, lambda: None)
        assert row(handle).enqueued_at is not None
        keeper.heal()
        left.append(JobRecord.objects.filter(name="old").count())

    assert left == [15, 5, 0]


@in_two_databases
def test_an_event_that_every_database_rejects(
    redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and skipped; the events before and after it are applied."""
    books, hand = Books(), Hand()
    before, bad, after = noop.enqueue(), noop.enqueue(), noop.enqueue()
    hand.run()
    fields = {"e": "retried", "id": str(bad), "n": "test-noop", "q": "default", "a": "9" * 30}
    redis_client.xadd(keys.EVENTS, {**fields, "w": "hand", "db": "default", "g": "0", "d": ""})
    hand.run()
    hand.run()
    with caplog.at_level(logging.ERROR, "wellos_jobs"):
        books.fold()
    assert f"event retried of job={bad} cannot be applied" in caplog.text
    assert [row(handle).state for handle in (before, bad, after)] == ["completed"] * 3
    assert statistics("test-noop") == {"enqueued": 3, "started": 3, "completed": 3}


@in_two_databases
def test_rq_data_that_some_databases_reject() -> None:
    """NUL, half a surrogate pair, NaN and infinity are JSON to RQ's serializer, but not to every
    database."""
    books = Books()
    arguments = {"a": "nul \x00 half \ud83d", "b": [float("nan"), float("inf")]}
    job = django_rq.get_queue("default").enqueue(foreign_add, **arguments)
    books.fold()
    assert JobRecord.objects.get(rq_id=job.id).data == {
        "a": "nul \ufffd half ?",
        "b": ["nan", "inf"],
    }
