"""``contrib.reports`` and its PDF: steps, files and errors."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pypdf
import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage

from wellos_jobs.contrib import emails, pdf, reports
from wellos_jobs.definitions.retry import Fail
from wellos_jobs.enqueueing.context import CurrentJob, running
from wellos_jobs.models import JobRecord
from wellos_jobs.states import FailureReason

from ..support.processes import PROJECT

DAYS = {"start": date(2026, 1, 1), "end": date(2026, 1, 31)}
ROWS = [
    {"person": "Ada <Berg> & Co", "hours": Decimal("12.50")},
    {"person": "Łukasz Żółw", "hours": Decimal("7.25")},
]


@pytest.fixture(autouse=True)
def _storage(tmp_path: Path, settings: Any) -> None:
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def hours() -> Iterator[list[reports.DateRange]]:
    """A report type ``hours``; the fixture is the list of its requested date ranges."""
    asked: list[reports.DateRange] = []

    def fetch(days: reports.DateRange) -> list[dict[str, Any]]:
        asked.append(days)
        return ROWS

    reports.register(
        "hours", title="Hours worked", fetch=fetch, columns={"person": "Person", "hours": "Hours"}
    )
    yield asked
    reports.unregister("hours")


class Running:
    """A current job that records its progress reports."""

    def __init__(self, user_id: object = "") -> None:
        self.reported: list[tuple[int, str]] = []
        self.job = CurrentJob(
            id=str(uuid.uuid4()),
            name="generate-report",
            queue="reports",
            attempt=1,
            max_attempts=3,
            requested_by_id=str(user_id),
            _report=lambda percent, message, final: self.reported.append((percent, message)),
        )

    def run(self, **data: Any) -> dict[str, Any]:
        with running(self.job):
            return reports.generate_report(**data)


def stored(name: str) -> bytes:
    with default_storage.open(name) as file:
        return file.read()


def text_of(content: bytes) -> str:
    return " ".join(
        " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages).split()
    )


def test_five_steps_one_file_and_a_result(hours: list[Any]) -> None:
    run = Running()
    result = run.run(report_type="hours", date_range=DAYS)
    name = f"reports/{run.job.id}.pdf"
    assert result == {"url": f"/media/{name}", "size": default_storage.size(name)}
    assert [percent for percent, _ in run.reported] == [0, 20, 60, 80, 90, 100]
    assert run.reported[-1] == (100, f"Report ready: /media/{name}")
    text = text_of(stored(name))
    for part in (
        "Hours worked",
        "01 Jan 2026 to 31 Jan 2026",
        "Ada <Berg> & Co 12.50",
        "Łukasz Żółw 7.25",
    ):
        assert part in text
    assert hours == [reports.DateRange(date(2026, 1, 1), date(2026, 1, 31))]


def test_a_repeated_run_replaces_its_file(hours: list[Any]) -> None:
    run = Running()
    assert run.run(report_type="hours", date_range=DAYS) == run.run(
        report_type="hours", date_range=DAYS
    )
    assert default_storage.listdir("reports")[1] == [f"{run.job.id}.pdf"]


def test_the_requester_gets_an_email(hours: list[Any], db: None, mailoutbox: list[Any]) -> None:
    user = get_user_model().objects.create_user("ada", email="ada@wellos.example")
    result = Running(user.pk).run(report_type="hours", date_range=DAYS)
    record = JobRecord.objects.get(name="send-email")
    assert (record.data["to"], record.requested_by) == ("ada@wellos.example", user)
    emails.email_job(**record.data)
    (message,) = mailoutbox
    assert message.subject == "Report ready: Hours worked"
    assert result["url"] in message.body


def test_a_repeated_run_sends_no_second_email(hours: list[Any], db: None) -> None:
    run = Running(get_user_model().objects.create_user("ada", email="ada@wellos.example").pk)
    for _ in range(2):
        run.run(report_type="hours", date_range=DAYS)
    assert JobRecord.objects.filter(name="send-email").count() == 1


def test_links_in_mails_are_absolute(hours: list[Any], db: None, settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BASE_URL": "https://wellos.example/"}
    user = get_user_model().objects.create_user("ada", email="ada@wellos.example")
    result = Running(user.pk).run(report_type="hours", date_range=DAYS)
    assert (
        JobRecord.objects.get(name="send-email").data["data"]["url"]
        == f"https://wellos.example{result['url']}"
    )


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("fate", ["deleted", "inactive", "no address"])
def test_without_a_requester_no_email_is_sent(hours: list[Any], db: None, fate: str) -> None:
    user = get_user_model().objects.create_user(
        "ada", email="" if fate == "no address" else "a@b.example", is_active=fate != "inactive"
    )
    key = user.pk
    if fate == "deleted":
        user.delete()
    Running(key).run(report_type="hours", date_range=DAYS)
    assert not JobRecord.objects.exists()


def test_a_project_can_replace_each_step(db: None) -> None:
    told = []
    reports.register(
        "own",
        title="Own",
        fetch=lambda days: [days.start.year],
        process=lambda rows: reports.Content(["Year"], [rows]),
        render=lambda title, days, content: f"{title} {days} {content.rows}".encode(),
        notify=lambda kind, file, message: told.append((kind.name, file.size, message)),
    )
    try:
        run = Running()
        result = run.run(report_type="own", date_range=["2026-02-01", "2026-02-28"])
        content = stored(f"reports/{run.job.id}.pdf")
    finally:
        reports.unregister("own")
    assert content == b"Own 01 Feb 2026 to 28 Feb 2026 [[2026]]"
    assert told == [("own", result["size"], f"Report ready: {result['url']}")]


def test_name_queue_and_dates_in_the_payload(hours: list[Any], db: None) -> None:
    record = reports.generate_report.enqueue(report_type="hours", date_range=DAYS).record()
    assert (record.name, record.queue, record.max_attempts) == ("generate-report", "reports", 3)
    assert record.data["date_range"]["start"] == {"$date": "2026-01-01"}


def test_an_unknown_type_suggests_the_closest_name_and_is_not_retried(hours: list[Any]) -> None:
    with pytest.raises(reports.UnknownReport, match="'huors': did you mean 'hours'") as error:
        reports.generate_report("huors", DAYS)
    policy = reports.generate_report.definition.policy
    assert policy.decide(error.value, 1) == Fail(FailureReason.NOT_RETRYABLE)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"start": "2026-01-01"}, "None is not a date"),
        (["2026-01-01"], "give {'start'"),
        ("2026-01-01", "give {'start'"),
        (["2026-01-01", "January"], "'January' is not a date"),
        (["2026-02-01", "2026-01-01"], "before it starts"),
        (5, "give {'start'"),
    ],
)
def test_invalid_date_ranges_are_refused(given: Any, fault: str) -> None:
    with pytest.raises(ValidationError) as error:
        reports.DateRange.of(given)
    assert fault in error.value.message


def test_a_datetime_counts_as_its_day() -> None:
    days = reports.DateRange.of((datetime(2026, 1, 1, 23), date(2026, 1, 2)))
    assert str(days) == "01 Jan 2026 to 02 Jan 2026"
    assert type(days.start) is date


def test_a_type_is_registered_once_and_with_a_way_to_process(hours: list[Any]) -> None:
    with pytest.raises(ValueError, match="already"):
        reports.register("hours", title="Again", fetch=list, columns={})
    for both in ({}, {"columns": {"a": "A"}, "process": list}):
        with pytest.raises(ValueError, match="either columns or process"):
            reports.register("other", title="Other", fetch=list, **both)


# --- CSV ------------------------------------------------------------------------------------------


def test_a_report_as_csv(hours: list[Any]) -> None:
    run = Running()
    result = run.run(report_type="hours", date_range=DAYS, format="csv")
    assert result["url"] == f"/media/reports/{run.job.id}.csv"
    assert [percent for percent, _ in run.reported] == [0, 20, 60, 80, 90, 100]
    expected = "Person,Hours\r\nAda <Berg> & Co,12.50\r\nŁukasz Żółw,7.25\r\n"
    assert stored(f"reports/{run.job.id}.csv").decode() == expected


def test_an_unknown_format_is_refused(hours: list[Any]) -> None:
    with pytest.raises(ValidationError, match="Unknown format 'xlsx': use pdf or csv"):
        reports.generate_report("hours", DAYS, format="xlsx")


def test_a_long_csv_takes_no_more_memory_than_a_short_one() -> None:
    def fetch(days: reports.DateRange) -> Iterator[dict[str, Any]]:
        for number in range(100_000):
            yield {"number": number, "text": "x" * 100}

    reports.register(
        "long", title="Long", fetch=fetch, columns={"number": "Number", "text": "Text"}
    )
    tracemalloc.start()
    try:
        result = Running().run(report_type="long", date_range=DAYS, format="csv")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        reports.unregister("long")
    assert result["size"] > 10_000_000
    assert peak < 4_000_000


def test_a_pdf_of_yielded_rows_counts_them_and_aligns_numbers() -> None:
    content = reports.Content(
        ["Name", "Hours"], iter([["Ada", 1], ["Bo", 2]]), numeric=None
    ).complete()
    assert (content.rows, content.figures, content.numeric) == (
        [["Ada", 1], ["Bo", 2]],
        {"Rows": 2},
        frozenset({1}),
    )


# --- PDF ------------------------------------------------------------------------------------------


def test_the_same_content_makes_the_same_bytes() -> None:
    content = reports.Content(["A"], [["x"]])
    days = reports.DateRange.of(DAYS)
    assert pdf.render_report("T", days, content) == pdf.render_report("T", days, content)


def test_a_long_report_goes_on_over_pages_with_its_heading() -> None:
    content = reports.Content(
        ["Place", "Number"], [[f"row {n}", n] for n in range(200)], numeric=frozenset({1})
    )
    pages = pypdf.PdfReader(
        io.BytesIO(pdf.render_report("Long", reports.DateRange.of(DAYS), content))
    ).pages
    assert len(pages) > 3
    for number, page in enumerate(pages, start=1):
        text = page.extract_text()
        assert "Place" in text
        assert f"Page {number}" in text


def test_an_empty_report() -> None:
    content = pdf.render_report("Empty", reports.DateRange.of(DAYS), reports.Content(["A"], []))
    assert "There is no data for these days." in text_of(content)


WITHOUT_REPORTLAB = """
import sys

class Hide:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "reportlab":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
import django
django.setup()
import wellos_jobs.contrib.jobs
from wellos_jobs.contrib import pdf
from wellos_jobs.errors import ConfigurationError
try:
    pdf.document([], title="", author="")
except ConfigurationError as error:
    print(error)
"""


def test_without_reportlab_only_pdf_fails_and_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_REPORTLAB], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "pip install reportlab" in done.stdout
