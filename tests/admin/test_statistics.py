"""The page of statistics: counts, windows, small samples and queries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from wellos_jobs import job
from wellos_jobs.definitions import registry
from wellos_jobs.ledger.counters import MinuteCounts
from wellos_jobs.models import DayStatistic, HourStatistic, JobStatistic
from wellos_jobs.monitoring import trends
from wellos_jobs.states import EventName

from ..jobs import noop, scripted
from ..support.browser import axe, login, narrow
from ..support.engine import Books, work
from ..support.users import client_of, staff, text

STATISTICS = "/admin/wellos_jobs/queues/statistics/"
NOW = datetime(2030, 1, 31, 12, 30, 30, tzinfo=UTC)

pytestmark = pytest.mark.django_db(transaction=True)


def count(
    at: datetime, completed: int = 0, failed: int = 0, seconds: float = 0.02, name: str = "x"
) -> None:
    counts = MinuteCounts()
    for event, number in ((EventName.COMPLETED, completed), (EventName.FAILED, failed)):
        for _ in range(number):
            counts.count(event, "email", name, at)
            counts.time("run", seconds, "email", name, at)
            counts.time("wait", seconds / 10, "email", name, at)
    counts.save("default")


@pytest.mark.parametrize(
    ("window", "inside", "outside", "spans"),
    [
        ("1h", timedelta(minutes=59), timedelta(minutes=61), 60),
        ("24h", timedelta(hours=23), timedelta(hours=25), 24),
        ("7d", timedelta(hours=167), timedelta(days=8), 168),
        ("30d", timedelta(days=29), timedelta(days=31), 30),
        ("90d", timedelta(days=89), timedelta(days=91), 90),
    ],
)
def test_each_window(window: str, inside: timedelta, outside: timedelta, spans: int) -> None:
    count(NOW, completed=3)
    count(NOW - inside, completed=2, failed=1)
    count(NOW - outside, completed=50, failed=50)
    found = trends.trends(window, now=NOW)
    assert len(found.begins) == spans
    assert (found.completed[-1], found.completed[0], found.failed[0]) == (3, 2, 1)
    assert (sum(found.completed), sum(found.failed)) == (5, 1)
    assert found.total is not None
    assert (found.total.completed, found.total.failed, found.total.run.runs) == (5, 1, 6)


def test_durations_and_small_samples() -> None:
    count(NOW, completed=98, seconds=0.02)
    count(NOW, completed=2, seconds=9.0)
    count(NOW, completed=1, seconds=4000.0, name="long")
    lines = {line.name: line for line in trends.trends("1h", now=NOW).lines}
    assert (lines["x"].run.p50, lines["x"].run.p95, lines["x"].run.p99) == (0.025, 0.025, 10.0)
    assert not lines["x"].run.is_small
    assert lines["long"].run.is_small
    assert (lines["long"].run.p50, lines["long"].failure_rate) == (None, 0.0)
    assert trends.Percentiles.of([]) == trends.Percentiles()


def test_filters() -> None:
    count(NOW, completed=1)
    count(NOW, completed=2, name="y")
    assert sum(trends.trends("24h", job="y", now=NOW).completed) == 2
    assert sum(trends.trends("24h", queue="email", now=NOW).completed) == 3
    assert trends.trends("24h", queue="default", now=NOW).lines == []


def test_the_page(root: Client) -> None:
    noop.enqueue_bulk([{}] * 4)
    scripted.enqueue(steps=["status:404"])
    work()
    Books().fold()
    for window in ("1h", "24h", "7d", "30d", "90d", "nonsense"):
        shown = text(root.get(STATISTICS, {"window": window}))
        assert "Completed 4 Failed 1 Failure rate 20 %" in shown
        assert "test-noop few samples default 4 0 0 %" in shown
    failing_first = text(root.get(STATISTICS, {"order": "failures"})).partition("By queue and job")[
        2
    ]
    assert failing_first.index("test-scripted") < failing_first.index("test-noop")
    one = text(root.get(STATISTICS, {"name": "test-noop"})).partition("By queue and job")[2]
    assert "test-scripted" not in one
    assert "No jobs finished in this period" in text(root.get(STATISTICS, {"queue": "slow"}))


def test_as_csv(root: Client) -> None:
    noop.enqueue_bulk([{}] * 4)
    work()
    Books().fold()
    answer = root.get(STATISTICS, {"format": "csv", "window": "1h"})
    assert answer["Content-Type"].startswith("text/csv")
    head, line = answer.content.decode().splitlines()
    assert head.startswith("queue,name,completed,failed,wait_p50")
    assert re.match(r"default,test-noop,4,0,\d", line)
    assert client_of(staff("view_jobrecord")).get(STATISTICS, {"format": "csv"}).status_code == 403


def test_csv_cells_are_not_formulas(root: Client) -> None:
    """A plain RQ job may have any name."""
    count(datetime.now(UTC), completed=1, name='=HYPERLINK("http://evil.example")')
    line = root.get(STATISTICS, {"format": "csv", "window": "1h"}).content.decode().splitlines()[1]
    assert line.partition(",")[2].startswith("\"'=HYPERLINK(")


def test_queries_are_constant(root: Client, django_assert_num_queries: Any) -> None:
    for window in ("1h", "7d", "90d"):
        with django_assert_num_queries(4):  # session, user, what ended, durations
            root.get(STATISTICS, {"window": window})
        now = datetime.now(UTC)
        for number in range(30):
            count(now - timedelta(minutes=number), completed=1, name=f"job-{number}")
        with django_assert_num_queries(4):
            root.get(STATISTICS, {"window": window})
    assert (
        JobStatistic.objects.count()
        >= HourStatistic.objects.count()
        >= DayStatistic.objects.count()
    )


def test_staff_limited_to_organizations_do_not_see_it(settings: Any) -> None:
    hook = "tests.admin.test_overview.organizations_of"
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "ADMIN_ORGANIZATIONS": hook}
    count(datetime.now(UTC), completed=1, name="secret")
    scoped = client_of(staff("view_queues"))
    for sent in ({}, {"format": "csv"}):
        shown = text(scoped.get(STATISTICS, sent))
        assert "You may see only some organizations" in shown
        assert "secret" not in shown


def compare() -> None: ...


@pytest.fixture
def long_name() -> Iterator[None]:
    """A job is declared whose name is longer than a phone is wide, as a task's may be."""

    with registry.isolated():
        job("timesheets.tasks.external_import." + "import_and_compare_" * 4)(compare)
        yield


@pytest.mark.browser
@pytest.mark.usefixtures("long_name")
def test_statistics_in_the_browser(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    now = datetime.now(UTC)
    for minutes in range(0, 60, 7):
        count(
            now - timedelta(minutes=minutes), completed=minutes + 3, failed=minutes % 3, seconds=0.3
        )
    page.goto(STATISTICS)
    axe(page)
    narrow(page)
    page.get_by_role("link", name="1 hour").click()
    page.get_by_text("Jobs finished per minute").wait_for()
    page.get_by_text("Numbers").first.click()
    axe(page)
    page.get_by_label("Queue").select_option("email")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**queue=email**")
    narrow(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "statistics.csv"
