"""Progress: throttled, stored only by the run that holds the claim, and never fatal to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from wellos_jobs import JobHandle, current_job, enqueue, report_progress
from wellos_jobs.broker import job_hash, keys
from wellos_jobs.broker.claims import rescue
from wellos_jobs.definitions import registry
from wellos_jobs.definitions.validation import define
from wellos_jobs.enqueueing.context import CurrentJob, running
from wellos_jobs.signals import job_progressed
from wellos_jobs.worker.progress import SPACING, Reporter

from ..jobs import noop, scripted
from ..support.engine import Books, Hand, listening, stream
from ..support.proxies import CuttingProxy
from ..support.round_trips import RoundTrips
from ..support.servers import RedisServer

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture
def commit(django_capture_on_commit_callbacks: Any) -> Callable[..., Any]:
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def handle(commit: Callable[..., Any]) -> JobHandle:
    with commit():
        return noop.enqueue()


def reporter(hand: Hand) -> Reporter:
    """Return the reporter of a run that has just begun."""
    return Reporter(hand.claimer, hand.take())


def reported() -> list[tuple[int, str]]:
    return [
        (event.detail["percent"], event.detail["message"])
        for event in stream()
        if event.event == "progressed"
    ]


def test_the_first_report_big_steps_and_the_last_one_are_sent_at_once(handle: JobHandle) -> None:
    report = reporter(Hand())
    for percent in range(101):
        report(percent, f"row {percent}", percent == 100)
    assert reported() == [(percent, f"row {percent}") for percent in range(0, 101, 10)]
    assert handle.progress == 100


def test_a_small_step_is_held_back_until_some_time_has_passed_or_the_run_ends(
    handle: JobHandle,
) -> None:
    report = reporter(Hand())
    report(10, "a", False)
    report(11, "b", False)
    report(12, "c", False)
    assert reported() == [(10, "a")]
    report._sent_at -= SPACING
    report(13, "d", False)
    assert reported() == [(10, "a"), (13, "d")]
    report(14, "e", False)
    report.flush()
    report.flush()
    assert reported()[2:] == [(14, "e")]


def test_a_step_back_is_a_step(handle: JobHandle) -> None:
    report = reporter(Hand())
    report(90, "first part", False)
    report(5, "second part", False)
    assert reported() == [(90, "first part"), (5, "second part")]


def test_the_same_report_again_is_not_sent(handle: JobHandle, round_trips: RoundTrips) -> None:
    report = reporter(Hand())
    report(100, "done", True)
    with round_trips.counting() as trips:
        report(100, "done", True)
    assert trips == []


def many_rows() -> None:
    for number in range(20_000):
        report_progress(number / 200, f"row {number}")


def test_a_tight_loop_costs_little(commit: Callable[..., Any], round_trips: RoundTrips) -> None:
    with registry.isolated():
        registry.register(define("bench", many_rows))
        with commit():
            handle = enqueue("bench", {})
        hand = Hand()
        claim = hand.take()
        started = time.monotonic()
        with round_trips.counting() as trips:
            hand.run(claim)
        assert time.monotonic() - started < 5
    assert len(trips) < 30
    assert handle.snapshot()["progress_message"] == "row 19999"


def test_progress_is_seen_while_the_run_lasts_and_in_the_row(commit: Callable[..., Any]) -> None:
    with commit():
        handle = scripted.enqueue(steps=["progress:40:rendering", "raise:ValueError:x"])
    hand, books = Hand(), Books()
    claim = hand.take()
    report = Reporter(hand.claimer, claim)
    report(40, "rendering", False)
    assert (handle.progress, handle.snapshot()["progress_message"]) == (40, "rendering")
    row = books.row(handle)
    assert (row.progress, row.progress_message) == (40, "rendering")


def test_the_signal_is_sent_for_stored_reports(handle: JobHandle) -> None:
    with listening(job_progressed) as heard:
        report = reporter(Hand())
        report(50, "half", False)
        report(51, "a bit more", False)
    assert [(one["job_id"], one["attempt"]) for one in heard] == [(str(handle), 1)]


def test_a_run_that_lost_its_claim_reports_nothing(
    handle: JobHandle, redis_client: redis.Redis
) -> None:
    hand = Hand()
    report = reporter(hand)
    rescue(hand.connection, "crashed", "gone", worker="hand")
    with listening(job_progressed) as heard:
        report(50, "still here", False)
    assert heard == [] and reported() == []
    assert redis_client.hget(keys.job(handle), job_hash.PROGRESS) is None


def test_with_redis_away_the_run_continues(
    redis_proxy: CuttingProxy, handle: JobHandle, caplog: pytest.LogCaptureFixture
) -> None:
    report = reporter(Hand())
    with redis_proxy.refusing():
        report(50, "half", False)
    assert f"progress of job={handle} was not stored, Redis is unavailable" in caplog.text
    report(60, "more", False)
    assert reported() == [(60, "more")]


def test_with_redis_full_the_run_continues(
    redis_server: RedisServer, commit: Callable[..., Any]
) -> None:
    with commit():
        handle = scripted.enqueue(steps=["progress:50:half", "result:done"])
    hand = Hand()
    claim = hand.take()
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        report = Reporter(hand.claimer, claim)
        report(50, "half", False)
        client.config_set("maxmemory", 0)
    assert hand.run(claim).kind == "completed"
    assert handle.result == "done"


def test_outside_a_run_reporting_does_nothing() -> None:
    report_progress(50, "no job")
    with running(CurrentJob("id", "name", "default", 1, 3)):
        report_progress(50, "no job")


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_an_invalid_percentage_is_refused(percent: float) -> None:
    with (
        running(CurrentJob("id", "name", "default", 1, 3)),
        pytest.raises(ValueError, match="progress is .*: it must be between 0 and 100"),
    ):
        current_job().report_progress(percent)


def test_a_message_is_cut_and_cleaned_of_what_cannot_be_stored() -> None:
    seen: list[tuple[int, str, bool]] = []
    job = CurrentJob("id", "name", "default", 1, 3, _report=lambda *report: seen.append(report))
    job.report_progress(33.9, "a\x00b\ud800" + "x" * 500)
    job.report_progress(100)
    assert seen == [(33, "a\ufffdb?" + "x" * 196, False), (100, "", True)]
