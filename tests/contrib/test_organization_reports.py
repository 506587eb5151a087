"""``org-report``: data, date range, file and recipients."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pypdf
import pytest
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage

from wellos_jobs import Discard, schedules
from wellos_jobs.contrib import csv_table, organization_reports, report_types, reports
from wellos_jobs.contrib.organization_reports import days_until, org_report
from wellos_jobs.contrib.reports import DateRange
from wellos_jobs.definitions import ids
from wellos_jobs.definitions.retry import Fail
from wellos_jobs.enqueueing.context import CurrentJob, running
from wellos_jobs.models import JobAttempt, JobRecord, OrganizationReportSchedule, Schedule
from wellos_jobs.schedules import ticks
from wellos_jobs.states import FailureReason, JobState

from ..support.engine import Books, work

DUE = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""A Monday, 07:00 in New York."""

ROWS = {
    "acme": [
        {"person": "Ada <Berg>", "hours": Decimal("12.50")},
        {"person": "=cmd|'x'!A1", "hours": Decimal("-1.25")},
    ],
    "fjord": [{"person": "Łukasz Żółw", "hours": Decimal(3)}],
}


def resolve(organization_id: str) -> dict[str, str] | None:
    if organization_id not in ROWS:
        return None
    return {"label": organization_id.title(), "url": "", "time_zone": "America/New_York"}


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, settings: Any) -> None:
    settings.MEDIA_ROOT = tmp_path
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "NOTIFY_ADMINS": False,
        "ORGANIZATION_RESOLVER": f"{__name__}.resolve",
    }


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[DateRange, str]]]:
    """A report type ``hours`` for organizations and one ``everything`` that is not.

    The fixture is the list of fetched date ranges and organizations."""
    monkeypatch.setattr(report_types, "_types", {})
    calls: list[tuple[DateRange, str]] = []

    def everything(days: DateRange) -> list[dict[str, Any]]:
        return [row for rows in ROWS.values() for row in rows]

    def hours(days: DateRange, organization: str = "") -> list[dict[str, Any]]:
        calls.append((days, organization))
        return ROWS[organization]

    columns = {"person": "Person", "hours": "Hours"}
    reports.register("everything", title="Everything", fetch=everything, columns=columns)
    reports.register("hours", title="Hours worked", fetch=hours, columns=columns)
    yield calls


class Running:
    """A current job with a due time that records its progress reports."""

    def __init__(self, due: datetime = DUE, **context: Any) -> None:
        self.reported: list[tuple[int, str]] = []
        self.job = CurrentJob(
            id=str(ids.tick_id("default:1:org-report:acme", due)),
            name="org-report",
            queue="dynamic",
            attempt=1,
            max_attempts=3,
            organization_id="acme",
            context=context,
            _report=lambda percent, message, final: self.reported.append((percent, message)),
        )

    def run(self, **data: Any) -> dict[str, Any]:
        with running(self.job):
            return org_report(**{"organization_id": "acme", "report_type": "hours", **data})


def stored(name: str) -> bytes:
    with default_storage.open(name) as file:
        return file.read()


def text_of(content: bytes) -> str:
    return " ".join(
        " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages).split()
    )


def weekly(**changes: Any) -> OrganizationReportSchedule:
    return schedules.schedule_organization_reports(
        "acme", "0 7 * * 1", report_type="hours", **changes
    )


# --- what is made ---------------------------------------------------------------------------------


def test_a_pdf_in_five_steps(db: None, asked: list[Any]) -> None:
    weekly()
    run = Running()
    result = run.run()
    name = f"reports/{run.job.id}.pdf"
    assert result == {"url": f"/media/{name}", "size": default_storage.size(name)}
    assert [percent for percent, _ in run.reported] == [0, 20, 60, 80, 90, 100]
    assert run.reported[-1] == (100, f"Report ready: /media/{name}")
    text = text_of(stored(name))
    for part in ("Hours worked, Acme", "23 Feb 2026 to 01 Mar 2026", "Ada <Berg> 12.50"):
        assert part in text
    assert "Żółw" not in text
    assert asked == [(DateRange(date(2026, 2, 23), date(2026, 3, 1)), "acme")]


def test_a_csv(db: None) -> None:
    run = Running()
    result = run.run(format="csv")
    content = stored(f"reports/{run.job.id}.csv")
    assert result["size"] == len(content)
    table = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert table == [["Person", "Hours"], ["Ada <Berg>", "12.50"], ["'=cmd|'x'!A1", "-1.25"]]
    assert [percent for percent, _ in run.reported] == [0, 20, 60, 80, 90, 100]


def test_a_repeated_run_leaves_one_file_and_sends_one_email(db: None) -> None:
    run = Running()
    first = run.run(format="csv", recipients=["a@acme.example"])
    assert run.run(format="csv", recipients=["a@acme.example"]) == first
    assert default_storage.listdir("reports")[1] == [f"{run.job.id}.csv"]
    assert JobRecord.objects.filter(name="send-email").count() == 1


def test_a_long_csv_goes_to_disk_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "IN_MEMORY", 1000)
    with csv_table.csv_file(["Number", "Text"], ([n, "é" * 20] for n in range(5000))) as file:
        assert file._rolled  # type: ignore[attr-defined]
        lines = file.read().decode().split("\r\n")
    assert len(lines) == 5002
    assert lines[4999] == f"4998,{'é' * 20}"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_text_that_a_spreadsheet_would_execute_is_escaped(text: str) -> None:
    with csv_table.csv_file([text], [[text, 1, None]]) as file:
        table = list(csv.reader(io.StringIO(file.read().decode(), newline="")))
    # Before the tab, and after it, where another spreadsheet begins a cell.
    safe = f"'{text[:1]}'=1" if text[:1] in "\t\r" else f"'{text}"
    assert table == [[safe], [safe, "1", ""]]


# --- who hears of it ------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_each_recipient_gets_a_separate_email(mailoutbox: list[Any]) -> None:
    weekly(recipients=["a@acme.example", "b@acme.example", "A@acme.example"])
    handle = schedules.run_now("acme")
    work()
    Books().fold()
    assert handle.refresh().state == JobState.COMPLETED
    assert sorted(message.recipients() for message in mailoutbox) == [
        ["a@acme.example"],
        ["b@acme.example"],
    ]
    (message, other) = mailoutbox
    assert len(message.message()["To"].split(",")) == 1
    assert message.subject.startswith("Hours worked: ")
    for part in (handle.result["url"], "Acme", "Hours worked"):
        assert part in message.body
        assert part in other.alternatives[0][0]


@pytest.mark.django_db(transaction=True)
def test_a_report_without_recipients(mailoutbox: list[Any]) -> None:
    handle = org_report.using(organization="acme").enqueue(
        organization_id="acme", report_type="hours"
    )
    work()
    assert handle.state == JobState.COMPLETED
    assert mailoutbox == []


# --- invalid arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["fjord", ""])
@pytest.mark.django_db(transaction=True)
def test_a_report_of_another_organization_than_the_jobs_is_refused(
    owner: str, asked: list[tuple[DateRange, str]], mailoutbox: list[Any]
) -> None:
    """The organization of the job decides, not that of the data, which a person may have typed."""
    handle = org_report.using(organization=owner).enqueue(
        organization_id="acme", report_type="hours", recipients=["x@fjord.example"]
    )
    work()
    work()
    assert handle.state == JobState.FAILED
    assert "organization_id is 'acme', but the job belongs to" in handle.error
    assert (asked, mailoutbox) == ([], [])
    with pytest.raises(Discard, match="belongs to") as error:
        Running().run(organization_id="fjord")
    assert org_report.definition.policy.decide(error.value, 1) == Fail(FailureReason.NOT_RETRYABLE)


def test_a_type_without_organizations_is_refused(db: None) -> None:
    with pytest.raises(
        reports.UnknownReport,
        match="includes the data of all organizations: its fetch takes no argument",
    ) as error:
        Running().run(report_type="everything")
    assert org_report.definition.policy.decide(error.value, 1) == Fail(FailureReason.NOT_RETRYABLE)


def test_an_unknown_type_suggests_the_closest_name(db: None) -> None:
    with pytest.raises(reports.UnknownReport, match="'huors': did you mean 'hours'"):
        Running().run(report_type="huors")


def test_the_default_type_is_the_first_for_organizations(db: None, asked: list[Any]) -> None:
    Running().run(report_type="")
    assert [organization for _, organization in asked] == ["acme"]
    reports.unregister("hours")
    with pytest.raises(
        reports.UnknownReport, match="No report type is registered for organizations"
    ):
        Running().run(report_type="")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"organization_id": ""}, "organization_id is empty"),
        ({"format": "xls"}, "Unknown format 'xls': use pdf or csv"),
        ({"recipients": "a@acme.example"}, "recipients must be a list"),
        (
            {"recipients": ["a@acme.example", "nobody"]},
            "Invalid email address 'nobody' in recipients",
        ),
    ],
)
def test_invalid_arguments_are_refused_before_the_report_is_made(
    db: None, data: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValidationError) as error:
        Running().run(**data)
    assert fault in error.value.message
    assert org_report.definition.policy.decide(error.value, 1) == Fail(FailureReason.NOT_RETRYABLE)
    assert not default_storage.exists("reports")


# --- which days -----------------------------------------------------------------------------------


def days(line: str, due: datetime, *, by_hand: bool = False, zone: str = "America/New_York") -> str:
    schedule = Schedule(name="x", cron=line, time_zone=zone)
    found = days_until(due, schedule, "acme", by_hand=by_hand)
    return f"{found.start} {found.end}"


def new_york(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo("America/New_York"))  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("line", "due", "wanted"),
    [
        ("0 7 * * 1", new_york(2026, 3, 2, 7), "2026-02-23 2026-03-01"),
        ("0 8 * * *", new_york(2026, 3, 2, 8), "2026-03-01 2026-03-01"),
        ("0 0 1 * *", new_york(2026, 3, 1), "2026-02-01 2026-02-28"),
        ("0 0 1 * *", new_york(2026, 1, 1), "2025-12-01 2025-12-31"),
        ("0 8 * * 1-5", new_york(2026, 3, 2, 8), "2026-02-27 2026-03-01"),
        ("0 8 * * 1-5", new_york(2026, 3, 3, 8), "2026-03-02 2026-03-02"),
        ("0 */6 * * *", new_york(2026, 3, 2, 6), "2026-03-02 2026-03-02"),
        ("0 */6 * * *", new_york(2026, 3, 2, 0), "2026-03-01 2026-03-01"),
        ("0 0 * * *", new_york(2026, 3, 9, 0), "2026-03-08 2026-03-08"),  # a day of 23 hours
        ("@every 7d", datetime(2026, 3, 5, tzinfo=UTC), "2026-02-25 2026-03-03"),
    ],
)
def test_a_report_covers_the_days_since_the_previous_run(
    line: str, due: datetime, wanted: str
) -> None:
    assert days(line, due) == wanted


def test_a_manual_run_covers_as_long_a_period_as_a_scheduled_one() -> None:
    assert days("0 7 * * 1", new_york(2026, 3, 4, 15), by_hand=True) == "2026-02-25 2026-03-03"
    assert days("0 0 1 * *", new_york(2026, 3, 20, 9), by_hand=True) == "2026-02-20 2026-03-19"


def test_every_day_of_a_year_is_in_exactly_one_daily_report() -> None:
    due, seen = new_york(2026, 1, 1, 23, 30), []
    schedule = Schedule(name="x", cron="30 23 * * *", time_zone="America/New_York")
    for run in [due, *schedule.runs_after(due, 364)]:
        found = days_until(run, schedule, "acme")
        assert found.start == found.end
        seen.append(found.start)
    assert seen == [date(2025, 12, 31) + timedelta(days=n) for n in range(365)]


def test_without_a_schedule_it_covers_thirty_days(db: None, asked: list[Any]) -> None:
    Running(DUE).run()
    assert asked[0][0] == DateRange(date(2026, 1, 31), date(2026, 3, 1))


@pytest.mark.django_db(transaction=True)
def test_the_days_depend_on_the_due_time_however_late_it_runs(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is a day late and its first attempt fails; the report still covers the due week."""
    row = weekly(recipients=["a@acme.example"])
    Schedule.objects.filter(pk=row.pk).update(next_run_at=DUE)
    ticks.tick("default", DUE + timedelta(days=1))
    record = JobRecord.objects.get(name="org-report")
    assert (record.queue, record.organization_id, ids.moment_of(record.pk)) == (
        "dynamic",
        "acme",
        DUE,
    )
    with monkeypatch.context() as patch:
        patch.setattr(organization_reports, "announce", _fail)
        work()
    Books().fold()
    assert JobAttempt.objects.get().message == "the mail server is away"
    JobRecord.objects.filter(pk=record.pk).update(run_at=None)
    with running(CurrentJob(str(record.pk), "org-report", "dynamic", 2, 3, organization_id="acme")):
        org_report(**record.data)
    assert [found for found, _ in asked] == [DateRange(date(2026, 2, 23), date(2026, 3, 1))] * 2
    assert default_storage.listdir("reports")[1] == [f"{record.pk}.pdf"]


def _fail(*_: object) -> None:
    raise ConnectionError("the mail server is away")


def test_the_schedule_of_the_job_takes_precedence(db: None, asked: list[Any]) -> None:
    weekly()
    monthly = Schedule.objects.create(
        name="acme-month",
        job_name="org-report",
        cron="0 0 1 * *",
        organization_id="acme",
        data={"organization_id": "acme", "report_type": "hours"},
    )
    chosen = uuid.UUID(Running(new_york(2026, 3, 1)).job.id)
    JobRecord.objects.create(
        pk=chosen, name="org-report", queue="dynamic", schedule=monthly, created_at=DUE
    )
    Running(new_york(2026, 3, 1)).run()
    assert asked[0][0] == DateRange(date(2026, 2, 1), date(2026, 2, 28))


# --- the other report -----------------------------------------------------------------------------


def test_generate_report_is_limited_to_the_job_s_organization(db: None, asked: list[Any]) -> None:
    run = Running()
    with running(run.job):
        reports.generate_report("hours", ["2026-01-01", "2026-01-31"])
    assert asked == [(DateRange(date(2026, 1, 1), date(2026, 1, 31)), "acme")]
    assert [percent for percent, _ in run.reported] == [0, 20, 60, 80, 90, 100]
