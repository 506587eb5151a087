"""The example's schedules: declared schedules, those of organizations, and what each job does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ..support import demo_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SCRIPT = r"""
import json, sys
from datetime import date, datetime, timezone
from django.core.management import call_command
from django.core import mail
from wellos_jobs.contrib import report_types, reports
from wellos_jobs.definitions import ids, registry
from wellos_jobs.enqueueing.context import CurrentJob, running
from wellos_jobs.models import JobRecord, Schedule
from example_project.demo import sample
from example_project.demo.partner import Partner
from example_project.invoices.models import Invoice
from example_project.invoices.recurring import daily_revenue_report, monthly_billing
from example_project.organizations.models import Organization
from example_project.timesheets.models import Project, TimeEntry
from example_project.timesheets.recurring import sync_time_entries, weekly_summary

found = {}

def row(name):
    one = Schedule.objects.get(name=name)
    return [one.cron, one.time_zone, one.job_name, one.data, one.next_run_at.isoformat()]

def due(job, *when):
    made = ids.tick_id("default:1:" + job.name, datetime(*when, tzinfo=timezone.utc))
    with running(CurrentJob(str(made), job.name, "scheduled-tasks", 1, 3)):
        return job()

def mails_with(subject):
    mails = JobRecord.objects.filter(name="send-email", data__subject=subject).order_by("data__to")
    return [[one.data["to"], one.data["data"]["text"], one.organization_id] for one in mails]

call_command("jobs_sync", verbosity=0)
sample.load("password", "password")
declared = Schedule.objects.exclude(name__startswith="org-report:")
found["declared"] = {one.name: [one.cron, one.time_zone, one.source] for one in declared}
found["queues"] = {job.name: job.queue for job in registry.all_jobs()}

# organizations
scheduled_reports = Schedule.objects.filter(job_name="org-report")
found["reports"] = {one.organization_id: row(one.name)[:4] for one in scheduled_reports}
new = Organization.objects.create(
    slug="nova", name="Nova", email="office@nova.example", time_zone="Asia/Tokyo"
)
found["new"] = row("org-report:nova")
new.time_zone = "America/New_York"
new.save()
found["moved"] = row("org-report:nova")
Schedule.objects.filter(name="org-report:nova").update(cron="0 6 * * 1")
new.name = "Nova 2"
new.save()
found["kept"] = row("org-report:nova")[0]
new.delete()
found["gone"] = Schedule.objects.filter(name="org-report:nova").exists()
found["types"] = [kind.name for kind in report_types.for_organizations()]
october = reports.DateRange(date(2026, 10, 1), date(2026, 10, 31))
hours = {who: report_types.find("hours").rows(october, who) for who in ("acme", "")}
found["hours"] = [
    sorted({line["project__organization__name"] for line in lines}) for lines in hours.values()
]
revenue = report_types.find("revenue").rows(october, "kiwi")
found["revenue"] = sorted({line["number"][:4] for line in revenue})

# scheduled jobs: the invoices are issued on 31 October
found["revenue of 31 Oct"] = due(daily_revenue_report, 2026, 11, 1, 12)
found["revenue of 30 Oct"] = due(daily_revenue_report, 2026, 10, 31, 12)
due(daily_revenue_report, 2026, 11, 1, 12)
found["revenue mails"] = mails_with("Revenue of 31 Oct 2026")

found["week"] = [due(weekly_summary, 2026, 10, 26, 9), due(weekly_summary, 2026, 10, 26, 9)]
week = TimeEntry.objects.filter(day__range=(date(2026, 10, 19), date(2026, 10, 25)))
found["week by hand"] = sum(week.values_list("minutes", flat=True))
found["week mails"] = mails_with("Your week from 19 Oct 2026")

found["nothing to bill"] = due(monthly_billing, 2026, 9, 1)
found["not billed"] = TimeEntry.objects.filter(invoice_line=None, billable=True).count()
project = Project.objects.filter(organization="fjord").first()
TimeEntry.objects.create(project=project, description="Late", day=date(2026, 11, 3), minutes=60)
found["to bill"] = [due(monthly_billing, 2026, 12, 1), due(monthly_billing, 2026, 12, 1)]
in_flows = JobRecord.objects.exclude(flow_id=None)
found["flows"] = sorted(in_flows.values_list("name", "organization_id"))

found["no sync"] = due(sync_time_entries, 2026, 11, 1)
TimeEntry.objects.create(
    project=project, description="x", day=date(2026, 11, 3), minutes=60, external_id="e-1"
)
partner = Partner()
partner.start()
from django.test import override_settings
with override_settings(TIME_ENTRIES_URL=f"{partner.url}/time-entries"):
    found["sync"] = [due(sync_time_entries, 2026, 11, 1, 0, 15) for _ in range(2)]
found["project"] = project.pk
imports = JobRecord.objects.filter(name="import-time-entries")
found["imports"] = [one.data["project_id"] for one in imports]
partner.stop()
print("FOUND", json.dumps(found, default=str))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The results of the script on a fresh database of the example."""
    folder = tmp_path_factory.mktemp("example") / "state"
    for arguments in (
        ("migrate", "--verbosity=0"),
        ("check", "--fail-level=WARNING"),
        ("shell", "-c", SCRIPT),
    ):
        process = demo_process.manage(folder, *arguments)
        assert process.wait(120) == 0, process.output()
    (line,) = re.findall(r"^FOUND (.*)$", process.output(), flags=re.M)
    yield json.loads(line)


def test_seven_schedules_are_declared(found: dict[str, Any]) -> None:
    assert found["declared"] == {
        "cleanup-expired-tokens": ["0 2 * * *", "", "code"],
        "cleanup-orphaned-files": ["0 3 * * *", "", "code"],
        "cleanup-pending-users": ["0 * * * *", "", "code"],
        "daily-revenue-report": ["0 8 * * *", "America/New_York", "code"],
        "weekly-summary": ["0 9 * * 1", "", "code"],
        "monthly-billing": ["0 0 1 * *", "", "code"],
        "sync-time-entries": ["*/15 * * * *", "", "code"],
    }
    queues = {name: found["queues"][name] for name in [*found["declared"], "org-report"]}
    assert queues == {
        **{
            name: "cleanup" if name.startswith("cleanup-") else "scheduled-tasks"
            for name in found["declared"]
        },
        "org-report": "dynamic",
    }


def test_each_organization_has_its_report_in_its_own_zone(found: dict[str, Any]) -> None:
    assert found["reports"].keys() == {"acme", "fjord", "kiwi", "lodz"}
    line, zone, job, data = found["reports"]["acme"]
    assert (line, zone, job) == ("0 7 1 * *", "", "org-report")
    assert (data["report_type"], data["recipients"]) == ("hours", ["office@acme.example"])
    assert sorted(found["types"]) == ["hours", "revenue", "time-entries"]


def test_a_schedule_is_created_updated_and_removed_with_its_organization(
    found: dict[str, Any],
) -> None:
    assert found["new"][4].split("T")[1] == "22:00:00+00:00"  # 07:00 in Tokyo
    assert found["moved"][4].split("T")[1] in (
        "11:00:00+00:00",
        "12:00:00+00:00",
    )  # 07:00 in New York
    assert found["kept"] == "0 6 * * 1"
    assert found["gone"] is False


def test_reports_show_one_organization_or_all(found: dict[str, Any]) -> None:
    assert found["hours"][0] == ["Acme Architects"]
    assert len(found["hours"][1]) == 4
    assert found["revenue"] == ["KIWI"]


def test_daily_revenue(found: dict[str, Any]) -> None:
    report = found["revenue of 31 Oct"]
    assert report["day"] == "2026-10-31"
    assert report["revenue"].keys() == {
        "Acme Architects",
        "Fjord & Söner AB",
        "Kiwi Care Ltd",
        "Łódź Studio sp. z o.o.",
    }
    assert re.fullmatch(r"\d+\.\d\d USD", report["revenue"]["Acme Architects"])
    assert found["revenue of 30 Oct"] == {"day": "2026-10-30", "revenue": {}}
    ((to, text, _),) = found["revenue mails"]  # one, though it ran twice
    assert to == "admin@wellos.example"
    assert f"Acme Architects: {report['revenue']['Acme Architects']}" in text


def test_weekly_summary(found: dict[str, Any]) -> None:
    assert found["week"] == [{"organizations": 4, "minutes": found["week by hand"]}] * 2
    assert found["week by hand"] > 0
    assert [mail[::2] for mail in found["week mails"]] == [
        [f"office@{slug}.example", slug] for slug in ("acme", "fjord", "kiwi", "lodz")
    ]
    assert "Website: " in found["week mails"][0][1]


def test_monthly_billing(found: dict[str, Any]) -> None:
    assert found["nothing to bill"] == {"month": "2026-08", "organizations": []}
    assert found["not billed"] == 0
    assert found["to bill"] == [
        {"month": "2026-11", "organizations": ["fjord"]},
        {"month": "2026-11", "organizations": []},  # a repeated run bills nothing twice
    ]
    names = [
        "calculate-billable-hours",
        "generate-invoice-pdf",
        "monthly-invoicing",
        "send-invoice-email",
    ]
    assert found["flows"] == [[name, "fjord"] for name in names]


def test_sync_of_time_entries(found: dict[str, Any]) -> None:
    assert found["no sync"]["projects"] == []
    assert found["sync"] == [{"projects": [found["project"]]}] * 2
    assert found["imports"] == [found["project"]]
