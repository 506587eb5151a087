"""Signals: sent where each transition happens, with its arguments; receivers may raise."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.dispatch import Signal

from wellos_jobs import JobHandle, job, operations, signals
from wellos_jobs.broker.claims import rescue
from wellos_jobs.enqueueing.push import push
from wellos_jobs.models import DeadLetter, JobRecord
from wellos_jobs.processes.shared_memory import Run, Slot
from wellos_jobs.states import EventName
from wellos_jobs.worker.rescue import announce_rescue

from ..jobs import fail, noop, scripted, secret
from ..support import engine
from ..support.engine import Books, Hand, listening, work
from ..support.rows import row

pytestmark = pytest.mark.django_db(databases=["default", "other"])
Commit = Callable[..., Any]


@pytest.fixture
def commit(django_capture_on_commit_callbacks: Any) -> Commit:
    return lambda using="default": django_capture_on_commit_callbacks(using=using, execute=True)


def facts_of(heard: list[dict[str, Any]]) -> list[tuple[str, str, str, int]]:
    """Return what was heard without its moments, which have to be of now."""
    for one in heard:
        assert set(one) == {"job_id", "name", "queue", "attempt", "at"}
        assert one["at"].tzinfo is not None and abs(one["at"] - datetime.now(UTC)) < timedelta(
            seconds=10
        )
    return [(one["job_id"], one["name"], one["queue"], one["attempt"]) for one in heard]


def test_there_is_a_signal_and_a_log_level_for_every_event() -> None:
    assert set(signals.BY_EVENT) == set(signals.LEVELS) == set(EventName)
    assert {name for name in vars(signals) if name.startswith("job_")} == {
        f"job_{event}" for event in EventName
    }


_slot = Slot()


@job("test-signals-look", timeout=40)
def look() -> float:
    """Return how many seconds are left of the run."""
    return _slot.run.deadline - time.monotonic() if _slot.run else 0.0


def test_a_run_has_started_when_job_started_is_sent_and_then_has_its_full_time(
    commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "Slot", lambda: _slot)
    runs: list[Run | None] = []

    def receive(**_: Any) -> None:
        runs.append(_slot.run)
        _slot.extend(-100)  # as if this had taken long

    signals.job_started.connect(receive)
    try:
        with commit():
            handle = look.enqueue()
        work()
    finally:
        signals.job_started.disconnect(receive)
    assert [run and run.job_id for run in runs] == [str(handle)]
    Books().fold()
    assert 0 < Books().row(handle).result <= 40
    assert _slot.run is None


def test_enqueued_is_sent_where_the_job_is_pushed(commit: Commit) -> None:
    with listening(signals.job_enqueued) as heard:
        with commit():
            handle = noop.enqueue()
            bulk = noop.using(queue="email").enqueue_bulk([{}, {}])
            assert heard == []
        push([row(handle)])  # known already
    assert facts_of(heard) == [
        (str(handle), "test-noop", "default", 0),
        *((str(one), "test-noop", "email", 0) for one in bulk),
    ]


@pytest.mark.parametrize(
    ("steps", "signal"),
    [
        (["result:x"], signals.job_completed),
        (["status:503:600"], signals.job_retried),
        (["snooze:60"], signals.job_snoozed),
        (["discard:x"], signals.job_failed),
    ],
)
def test_started_and_how_it_ended_are_sent_in_the_worker(
    commit: Commit, steps: list[str], signal: Signal
) -> None:
    with commit():
        handle = scripted.enqueue(steps=steps)
    with listening(signals.job_started) as started, listening(signal) as ended:
        work("default")
    assert facts_of(started) == facts_of(ended) == [(str(handle), "test-scripted", "default", 1)]


def test_a_signal_comes_after_redis_has_stored_the_transition(commit: Commit) -> None:
    with commit():
        handle = noop.enqueue()
    seen: list[str] = []

    def look(sender: Any, job_id: str, **_: Any) -> None:
        seen.append(JobHandle(handle.id, "default").state.value)

    signals.job_started.connect(look)
    signals.job_completed.connect(look)
    try:
        work("default")
    finally:
        signals.job_started.disconnect(look)
        signals.job_completed.disconnect(look)
    assert seen == ["active", "completed"]


def test_progressed(commit: Commit) -> None:
    with commit():
        handle = scripted.enqueue(steps=["progress:40:half", "progress:80:most"])
    with listening(signals.job_progressed) as heard:
        work("default")
    assert facts_of(heard) == [(str(handle), "test-scripted", "default", 1)] * 2


def test_replayed_and_canceled_are_sent_by_the_caller(commit: Commit) -> None:
    with commit():
        handle = fail.enqueue()
        waiting = noop.using(queue="email").enqueue()
    work("default")
    Books().fold()
    with (
        listening(signals.job_replayed) as replayed,
        listening(signals.job_enqueued) as enqueued,
        commit(),
    ):
        operations.retry(row(handle))
    assert facts_of(replayed) == [(str(handle), "test-fail", "default", 0)] and enqueued == []
    with listening(signals.job_canceled) as canceled:
        waiting.cancel()
    assert facts_of(canceled) == [(str(waiting), "test-noop", "email", 0)]


def test_rescued_failed_and_canceled_are_sent_by_the_rescuer(commit: Commit) -> None:
    with commit():
        handle = noop.using(max_attempts=2).enqueue()
    hand = Hand("default")
    for expected in (signals.job_rescued, signals.job_failed):
        hand.take()
        with listening(expected) as heard:
            for job in rescue(hand.connection, "crashed", "it died", worker="hand"):
                announce_rescue(job, "it died")
        assert [one[:3] for one in facts_of(heard)] == [(str(handle), "test-noop", "default")]
    with commit():
        stopped = noop.enqueue()
    hand.take()
    with listening(signals.job_canceled) as heard:
        for job in rescue(hand.connection, "canceled", "stopped", worker="hand"):
            announce_rescue(job, "stopped")
    assert [one["job_id"] for one in heard] == [str(stopped)]


def test_dead_letter_created_is_sent_after_the_commit(commit: Commit) -> None:
    with commit():
        handle = fail.enqueue()
    work("default")
    found: list[Any] = []

    def look(sender: Any, dead_letter: DeadLetter, **_: Any) -> None:
        found.append(DeadLetter.objects.get(pk=dead_letter.pk).job_id)

    signals.dead_letter_created.connect(look)
    try:
        Books().fold()
    finally:
        signals.dead_letter_created.disconnect(look)
    assert found == [handle.id]


def test_a_receiver_that_raises_is_logged_and_does_no_harm(
    commit: Commit, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(sender: Any, **_: Any) -> None:
        raise RuntimeError("the receiver is broken")

    every = [*signals.BY_EVENT.values(), signals.dead_letter_created]
    for signal in every:
        signal.connect(broken)
    try:
        with listening(signals.job_completed) as heard:
            with commit():
                good = scripted.enqueue(steps=["progress:50:x", "result:x"])
                bad = fail.enqueue()
            work("default")
            books = Books()
            assert (books.row(good).state, books.row(bad).state) == ("completed", "failed")
    finally:
        for signal in every:
            signal.disconnect(broken)
    assert [one["job_id"] for one in heard] == [str(good)]
    assert caplog.text.count("Error calling test_a_receiver_that_raises") == 8
    assert "RuntimeError: the receiver is broken" in caplog.text


def test_log_lines_have_levels_ids_and_extras(
    commit: Commit, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="wellos_jobs"):
        with commit():
            good = scripted.enqueue(steps=["progress:50:x"])
            bad = fail.enqueue("no luck")
        work("default")
    lines = {
        (record.event, record.job_id): record
        for record in caplog.records
        if hasattr(record, "event")
    }
    levels = {key: record.levelname for key, record in lines.items()}
    assert levels == {
        ("enqueued", str(good)): "DEBUG",
        ("enqueued", str(bad)): "DEBUG",
        ("started", str(good)): "INFO",
        ("progressed", str(good)): "DEBUG",
        ("completed", str(good)): "INFO",
        ("started", str(bad)): "INFO",
        ("failed", str(bad)): "ERROR",
    }
    record = lines["failed", str(bad)]
    assert (
        record.getMessage()
        == f"failed test-fail job={bad} queue=default attempt=1 ValueError: no luck"
    )
    assert (record.job_name, record.queue, record.attempt) == ("test-fail", "default", 1)  # type: ignore[attr-defined]


def test_no_log_line_has_a_secret(commit: Commit, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        with commit():
            secret.enqueue(token="s3cret-value", fail=True)
        work("default")
        Books().fold()
    assert "failed test-secret" in caplog.text and "********" in caplog.text
    assert "s3cret-value" not in caplog.text


def test_nothing_is_computed_without_receivers(commit: Commit) -> None:
    with commit():
        noop.enqueue()
    assert work("default").jobs_done == 1
    assert JobRecord.objects.count() == 1
