"""What a test says about the jobs that its code has enqueued."""

from __future__ import annotations

import uuid
from datetime import timedelta
from unittest import mock

import pytest
from django.db import transaction
from django.utils import timezone

from wellos_jobs import Batch, JobHandle, JobState, Priority, enqueue_bulk
from wellos_jobs.testing import CapturedJobs, captured_jobs

from ..jobs import scripted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("somebodys_redis")]

FULL = {"steps": ["result:1"], "journal": "x"}


def test_jobs_are_captured_in_order_with_their_options(jobs_captured: CapturedJobs) -> None:
    scripted.enqueue(["result:1"])
    scripted.using(priority=Priority.HIGH, queue="reports", delay=60, organization="acme").enqueue(
        journal="x"
    )

    first, second = jobs_captured
    assert (first.name, first.data, first.delay) == ("test-scripted", {"steps": ["result:1"]}, None)
    assert (second.queue, second.priority, second.organization) == (
        "reports",
        Priority.HIGH,
        "acme",
    )
    assert second.delay == 60
    assert second.state is JobState.DELAYED
    assert second.handle == JobHandle(second.id, "reports")
    assert jobs_captured[-1] == second
    assert jobs_captured.of(scripted) == [first, second] == jobs_captured.enqueued
    assert jobs_captured.of("another") == []


def test_rolled_back_jobs_are_not_there(jobs_captured: CapturedJobs) -> None:
    with transaction.atomic():
        scripted.enqueue(journal="kept")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            scripted.enqueue(journal="rolled back")
            raise ZeroDivisionError

    jobs_captured.assert_enqueued(scripted, 1)
    jobs_captured.assert_enqueued("test-scripted", data={"journal": "kept"})


@pytest.mark.django_db(transaction=True)
def test_the_same_where_transactions_commit(jobs_captured: CapturedJobs) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        scripted.enqueue(journal="rolled back")
        raise ZeroDivisionError
    with transaction.atomic():
        handle = scripted.enqueue(journal="kept")

    jobs_captured.assert_enqueued(scripted, 1, {"journal": "kept"})
    assert handle.record().enqueued_at is not None


def test_data_is_matched_in_part_and_as_it_is_stored(jobs_captured: CapturedJobs) -> None:
    chosen = uuid.uuid4()
    enqueue_bulk(
        [
            ("test-scripted", {"steps": ("a", "b"), "journal": str(chosen)}, None),
            ("test-scripted", {"steps": [], "journal": "other"}, None),
        ]
    )
    assert len(jobs_captured.assert_enqueued(scripted)) == 2
    jobs_captured.assert_enqueued(scripted, 1, {"steps": ("a", "b")})
    jobs_captured.assert_enqueued(scripted, 2, {"journal": mock.ANY})
    jobs_captured.assert_enqueued(scripted, 0, {"steps": ["b", "a"]})
    jobs_captured.assert_not_enqueued(scripted, {"journal": "nobody"})


def test_times_are_matched_to_the_second(jobs_captured: CapturedJobs) -> None:
    scripted.using(delay=60).enqueue()
    jobs_captured.assert_enqueued(scripted, delay=timedelta(minutes=1))
    jobs_captured.assert_enqueued(scripted, run_at=timezone.now() + timedelta(seconds=60))
    with pytest.raises(AssertionError, match=r"delay is 60\.0 s, not 90 s"):
        jobs_captured.assert_enqueued(scripted, delay=90)
    with pytest.raises(AssertionError, match="run_at is "):
        jobs_captured.assert_enqueued(scripted, run_at=timezone.now())


@pytest.mark.parametrize(
    ("wanted", "difference"),
    [
        ({"data": {"journal": "y"}}, "journal is 'x', not 'y'"),
        ({"data": {"invoice": 1}}, "it has no invoice"),
        ({"queue": "reports"}, "queue is 'default', not 'reports'"),
        ({"organization": "acme"}, "organization is '', not 'acme'"),
        ({"priority": Priority.BULK}, "priority is "),
    ],
)
def test_a_failure_says_what_was_enqueued_and_what_differs(
    jobs_captured: CapturedJobs, wanted: dict[str, object], difference: str
) -> None:
    scripted.enqueue(**FULL)
    with pytest.raises(AssertionError) as failed:
        jobs_captured.assert_enqueued(scripted, **wanted)  # type: ignore[arg-type]
    text = str(failed.value)
    assert "to be enqueued at least once, but it was 0 times." in text
    assert "test-scripted(steps=['result:1'], journal='x') [queue default; waiting]" in text
    assert difference in text


def test_other_failures(jobs_captured: CapturedJobs) -> None:
    jobs_captured.assert_nothing_enqueued()
    with pytest.raises(AssertionError, match=r"No job was enqueued\.$"):
        jobs_captured.assert_enqueued(scripted)

    scripted.enqueue()
    with pytest.raises(AssertionError, match="3 times, but it was 1 times"):
        jobs_captured.assert_enqueued(scripted, count=3)
    with pytest.raises(AssertionError, match="0 times, but it was 1 times"):
        jobs_captured.assert_not_enqueued(scripted)
    with pytest.raises(AssertionError, match=r"Nothing should have been enqueued\. Enqueued:"):
        jobs_captured.assert_nothing_enqueued()
    with pytest.raises(TypeError, match="is not a job: give a function with @job"):
        jobs_captured.assert_enqueued(print)  # type: ignore[arg-type]


def test_only_what_the_block_enqueues_is_captured() -> None:
    scripted.enqueue(journal="before")
    with captured_jobs() as jobs:
        scripted.enqueue(journal="within")
    scripted.enqueue(journal="after")
    assert [job.data["journal"] for job in jobs] == ["within"]
    assert repr(jobs).startswith("<CapturedJobs: test-scripted(journal='within')")


def test_jobs_may_be_forgotten(jobs_captured: CapturedJobs) -> None:
    scripted.enqueue(journal="set up")
    jobs_captured.clear()
    assert not jobs_captured
    scripted.enqueue()
    assert len(jobs_captured) == 1


def test_canceled_and_blocked_jobs(jobs_captured: CapturedJobs) -> None:
    scripted.enqueue(journal="canceled").cancel()
    with Batch("import", on_complete=scripted.with_data(journal="callback")) as batch:
        batch.enqueue(scripted, journal="member")
    states = {job.data["journal"]: job.state for job in jobs_captured}
    assert states == {"callback": JobState.BLOCKED, "member": JobState.WAITING}
