"""JobHandle: where it reads from in each part of a job's life, and waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from wellos_jobs import JobHandle, JobState, operations
from wellos_jobs.broker import keys
from wellos_jobs.broker.claims import Outcome, rescue
from wellos_jobs.definitions import ids
from wellos_jobs.enqueueing import control
from wellos_jobs.enqueueing.push import push
from wellos_jobs.errors import JobNotFound
from wellos_jobs.models import JobRecord

from ..jobs import add, fail, noop, scripted
from ..support.engine import Books, Hand
from ..support.processes import wait_until
from ..support.proxies import CuttingProxy

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture
def commit(django_capture_on_commit_callbacks: Any) -> Callable[..., Any]:
    return lambda using="default": django_capture_on_commit_callbacks(using=using, execute=True)


Commit = Callable[..., Any]


def test_a_handle_is_its_id() -> None:
    chosen = ids.new_id()
    handle = JobHandle(chosen, "default")
    assert str(handle) == str(chosen)
    assert handle == JobHandle(chosen, "email") and handle != JobHandle(ids.new_id(), "default")
    assert len({handle, JobHandle(chosen, "default")}) == 1
    assert str(chosen) in repr(handle)
    assert handle != str(chosen)


def test_the_states_of_a_job_as_redis_has_them(commit: Commit) -> None:
    with commit():
        handle = scripted.enqueue(steps=["on:1:retry:600", "on:2:progress:40:half", "result:done"])
    hand = Hand()
    assert handle.refresh() is handle
    assert (handle.state, handle.result, handle.error, handle.progress) == (
        JobState.WAITING,
        None,
        "",
        0,
    )
    claim = hand.take()
    assert handle.state is JobState.ACTIVE
    hand.run(claim)
    assert handle.state is JobState.DELAYED
    assert handle.snapshot()["attempts"] == 1
    control.promote(handle.record())
    hand.run()
    snapshot = handle.snapshot()
    assert snapshot == {
        "state": JobState.COMPLETED,
        "progress": 100,
        "progress_message": "half",
        "result": "done",
        "error": "",
        "attempts": 2,
    }


def test_the_row_answers_after_redis_has_expired_the_job(
    redis_client: redis.Redis, commit: Commit
) -> None:
    with commit():
        done = add.enqueue(2, b=3)
        broken = fail.enqueue("no luck")
    hand = Hand()
    hand.run()
    hand.run()
    in_redis = [done.snapshot(), broken.snapshot()]
    Books().fold()
    assert all(0 < redis_client.ttl(keys.job(handle)) <= 60 for handle in (done, broken))
    redis_client.flushall()  # as after that time
    assert [done.snapshot(), broken.snapshot()] == in_redis
    assert (done.result, broken.error, broken.state) == (5, "no luck", JobState.FAILED)


def test_after_pruning_there_is_no_such_job(redis_client: redis.Redis, commit: Commit) -> None:
    with commit():
        handle = noop.enqueue()
    redis_client.flushall()
    JobRecord.objects.all().delete()
    with pytest.raises(JobNotFound, match=f"There is no job {handle.id} in the database 'default'"):
        _ = handle.state
    with pytest.raises(JobNotFound):
        handle.cancel()


def test_a_handle_reads_the_row_of_its_own_database(
    redis_client: redis.Redis, commit: Commit
) -> None:
    with commit("other"):
        handle = add.using(database="other").enqueue(1)
    redis_client.flushall()
    assert handle.state is JobState.WAITING
    assert handle.record()._state.db == "other"
    with pytest.raises(JobNotFound):
        JobHandle(handle.id, "reports").refresh()


def test_with_redis_down_the_row_answers(redis_proxy: CuttingProxy, commit: Commit) -> None:
    with commit():
        handle = noop.enqueue()
    with redis_proxy.refusing():
        assert handle.state is JobState.WAITING


def test_an_attempt_after_a_failed_one_starts_with_fresh_progress(commit: Commit) -> None:
    with commit():
        handle = scripted.enqueue(
            steps=["before:3:progress:70:far", "on:1:raise:ValueError:first", "on:2:kill"]
        )
    hand = Hand()
    hand.run()
    assert (handle.progress, handle.snapshot()["progress_message"], handle.error) == (
        0,
        "",
        "first",
    )
    control.promote(handle.record())
    claim = hand.take()
    hand.claimer.report_progress(claim, 70, "far")
    assert handle.progress == 70
    rescue(hand.connection, "crashed", "gone", worker="hand")
    assert (handle.progress, handle.snapshot()["progress_message"]) == (0, "")


def test_a_snooze_is_no_error(commit: Commit) -> None:
    with commit():
        handle = scripted.enqueue(steps=["progress:30:x", "snooze:600"])
    Hand().run()
    assert (handle.state, handle.error, handle.progress) == (JobState.DELAYED, "", 0)
    assert handle.snapshot()["attempts"] == 0


def test_wait_returns_at_once_for_a_final_job_and_after_the_timeout(
    commit: Commit,
) -> None:
    with commit():
        handle = noop.enqueue()
    started = time.monotonic()
    assert handle.wait(0.05) is False
    assert 0.05 <= time.monotonic() - started < 1.0
    assert handle.wait(0) is False
    Hand().run()
    assert handle.wait(0) is True


def test_wait_ends_soon_after_the_job(commit: Commit) -> None:
    with commit():
        handle = noop.enqueue()
    hand = Hand()
    claim = hand.take()
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(handle.wait(20)), daemon=True)
    waiting.start()
    hand.run(claim)
    ended = time.monotonic()
    wait_until(lambda: answers)
    assert answers == [True] and time.monotonic() - ended < 2.0


def test_after_a_replay_the_handle_shows_the_new_run(commit: Commit) -> None:
    with commit():
        handle = fail.enqueue("no luck")
    hand, books = Hand(), Books()
    hand.run()
    assert books.row(handle).state == JobState.FAILED
    with commit():
        operations.retry(handle.record(), reason="mended")
    assert (handle.state, handle.error) == (JobState.WAITING, "")


def test_between_the_commit_of_a_replay_and_its_push_the_row_counts(commit: Commit) -> None:
    """Redis still has the failed run."""
    with commit():
        handle = fail.enqueue("no luck")
    Hand().run()
    Books().fold()
    assert handle.state is JobState.FAILED and handle.wait(0)

    operations.retry(handle.record(), reason="fixed")  # committed, but not pushed yet
    assert (handle.state, handle.error, handle.wait(0)) == (JobState.WAITING, "", False)
    assert "failed" not in handle.explain()


def test_a_failed_job_without_a_row_is_failed(commit: Commit) -> None:
    with commit():
        handle = fail.enqueue("no luck")
    Hand().run()
    JobRecord.objects.all().delete()
    assert (handle.state, handle.error) == (JobState.FAILED, "no luck")


def test_canceling_twice_is_true_once(commit: Commit) -> None:
    with commit():
        waiting, running = noop.enqueue(), noop.enqueue()
    hand = Hand()
    assert (waiting.cancel(), waiting.cancel()) == (True, False)
    claim = hand.take()
    assert (running.cancel(), running.cancel()) == (True, False)
    hand.settle(claim, Outcome("canceled"))
    Books().fold()
    assert (waiting.cancel(), running.cancel()) == (False, False)


def test_canceling_the_replay_of_a_job_leaves_nothing_in_the_failed_registry(
    redis_client: redis.Redis, commit: Commit
) -> None:
    with commit():
        handle = fail.enqueue()
    Hand().run()
    Books().fold()
    operations.retry(handle.record())  # committed, but not pushed yet
    assert handle.cancel() is True
    assert handle.state is JobState.CANCELED
    assert redis_client.zcard(keys.failed("default")) == 0
    assert push([handle.record()]) == 0


def test_times_in_redis_are_those_of_the_row(redis_client: redis.Redis, commit: Commit) -> None:
    with commit():
        handle = noop.enqueue()
    created = redis_client.hget(keys.job(handle), "created_at").decode()
    assert created == handle.record().created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.parametrize(
    ("job", "ending"), [(noop, JobState.COMPLETED), (fail, JobState.FAILED)], ids=["done", "failed"]
)
def test_canceling_a_job_that_ended_long_ago_changes_nothing(
    redis_client: redis.Redis, commit: Commit, job: Any, ending: JobState
) -> None:
    """Redis has forgotten it by then; a tombstone would make the ledger call it canceled."""
    with commit():
        handle = job.enqueue()
    Hand().run()
    books = Books()
    books.fold()
    redis_client.delete(keys.job(handle))
    assert handle.cancel() is False and not redis_client.exists(keys.job(handle))
    assert books.row(handle).state == handle.state == ending
