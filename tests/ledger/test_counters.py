"""Statistics: counts by minute, queue and name, with histograms of wait and run times, added up in
the rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from wellos_jobs.ledger.counters import MinuteCounts
from wellos_jobs.models import DayStatistic, HourStatistic, JobStatistic
from wellos_jobs.models.statistic import BUCKETS
from wellos_jobs.states import EventName

from ..jobs import add, noop, scripted
from ..support.engine import Books, Hand, work

BOTH = ["default", "other"]
pytestmark = pytest.mark.django_db(databases=BOTH)
NOON = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


def test_counts_go_to_their_minute_queue_and_name() -> None:
    counts = MinuteCounts()
    for queue, name, at in (
        ("a", "x", NOON),
        ("a", "x", NOON + timedelta(seconds=59, microseconds=999_999)),
        ("a", "x", NOON + timedelta(seconds=60)),
        ("a", "y", NOON),
        ("b", "x", NOON),
    ):
        counts.count(EventName.COMPLETED, queue, name, at)
    counts.save("default")

    assert sorted(JobStatistic.objects.values_list("begins_at", "queue", "name", "completed")) == [
        (NOON, "a", "x", 2),
        (NOON, "a", "y", 1),
        (NOON, "b", "x", 1),
        (NOON + timedelta(minutes=1), "a", "x", 1),
    ]


@pytest.mark.parametrize("database", BOTH)
def test_later_saves_add_to_the_rows(database: str) -> None:
    for turn in range(3):
        counts = MinuteCounts()
        for _ in range(turn + 1):
            counts.count(EventName.STARTED, "a", "x", NOON)
            counts.time("wait", 0.02, "a", "x", NOON)
        counts.time("run", 2.0, "a", "x", NOON)
        counts.count(EventName.FAILED, "b", "x", NOON)
        counts.save(database)
    [row] = JobStatistic.objects.using(database).filter(queue="a")

    assert (row.started, row.completed) == (6, 0)
    assert (row.wait_seconds, row.run_seconds) == (pytest.approx(0.12), pytest.approx(6.0))
    assert (row.wait_histogram[1], sum(row.wait_histogram)) == (6, 6)
    assert (row.run_histogram[BUCKETS.index(2.5)], sum(row.run_histogram)) == (3, 3)
    assert JobStatistic.objects.using(database).get(queue="b").failed == 3
    assert JobStatistic.objects.using(database).count() == 2


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.01, 0), (0.0100001, 1), (1.0, 6), (1800.0, 13), (1800.1, 14), (1e9, 14)],
)
def test_a_duration_counts_in_the_first_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    counts = MinuteCounts()
    counts.time("run", seconds, "a", "x", NOON)
    counts.save("default")
    [histogram] = JobStatistic.objects.values_list("run_histogram", flat=True)
    assert histogram == [int(place == bucket) for place in range(len(BUCKETS) + 1)]


def test_progress_and_replays_are_not_counted() -> None:
    counts = MinuteCounts()
    counts.count(EventName.PROGRESSED, "a", "x", NOON)
    counts.count(EventName.REPLAYED, "a", "x", NOON)
    with CaptureQueriesContext(connection) as queries:
        counts.save("default")
    assert len(queries) == 0 and not JobStatistic.objects.exists()


def test_names_that_differ_in_case_or_accents_are_counted_separately() -> None:
    names = ["import", "Import", "IMPORT", "impört"]
    for _ in range(2):
        counts = MinuteCounts()
        for number, name in enumerate(names, start=1):
            for _ in range(number):
                counts.count(EventName.COMPLETED, "a", name, NOON)
        counts.save("default")
    stored = dict(JobStatistic.objects.values_list("name", "completed"))
    assert stored == {"import": 2, "Import": 4, "IMPORT": 6, "impört": 8}


def test_many_job_names_take_a_few_statements() -> None:
    counts = MinuteCounts()
    for number in range(300):
        counts.count(EventName.COMPLETED, "a", f"job-{number}", NOON)
    counts.save("default")
    again = MinuteCounts()
    for number in range(300):
        again.count(EventName.COMPLETED, "a", f"job-{number}", NOON)
    with CaptureQueriesContext(connection) as queries:
        again.save("default")
    assert len(queries) <= 18  # by minute, hour and day; SQLite takes them in portions
    assert set(JobStatistic.objects.values_list("completed", flat=True)) == {2}


@pytest.mark.parametrize("database", BOTH)
def test_hours_and_days_add_up_the_same(database: str) -> None:
    for minutes in (0, 59, 60, 12 * 60):
        counts = MinuteCounts()
        counts.count(EventName.COMPLETED, "a", "x", NOON + timedelta(minutes=minutes))
        counts.time("run", 2.0, "a", "x", NOON + timedelta(minutes=minutes))
        counts.save(database)
    hours = HourStatistic.objects.using(database).order_by("begins_at")
    assert [
        (row.begins_at, row.completed, row.run_seconds, sum(row.run_histogram)) for row in hours
    ] == [
        (NOON, 2, 4.0, 2),
        (NOON + timedelta(hours=1), 1, 2.0, 1),
        (NOON + timedelta(hours=12), 1, 2.0, 1),
    ]

    days = DayStatistic.objects.using(database).order_by("begins_at")
    assert [(row.begins_at, row.completed) for row in days] == [
        (NOON - timedelta(hours=12), 3),
        (NOON + timedelta(hours=12), 1),
    ]


def test_sums_match_the_events(
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        noop.enqueue_bulk([{}] * 20)
        add.using(queue="email").enqueue_bulk([{"a": 1}] * 10)
        scripted.enqueue_bulk([{"steps": ["status:503:600"]}] * 5)
        canceled = noop.enqueue()
    canceled.cancel()
    Hand()
    work("default", "email")
    Books().fold()
    found = {row.name: row for row in JobStatistic.objects.order_by("begins_at")}
    if JobStatistic.objects.values("begins_at").distinct().count() > 1:
        pytest.skip("a minute began during the test")
    assert (
        found["test-noop"].enqueued,
        found["test-noop"].completed,
        found["test-noop"].canceled,
    ) == (21, 20, 1)
    assert (found["test-add"].queue, found["test-add"].completed) == ("email", 10)
    assert (found["test-scripted"].started, found["test-scripted"].retried) == (5, 5)

    for name, number in (("test-noop", 20), ("test-add", 10), ("test-scripted", 5)):
        assert sum(found[name].wait_histogram) == sum(found[name].run_histogram) == number
        assert found[name].wait_seconds > 0 and found[name].run_seconds > 0
