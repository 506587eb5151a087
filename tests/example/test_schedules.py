"""The example's schedules: what is declared, what organizations get, and what each of the jobs does
when it is due."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ..support import demo_process

pytestmark = pytest.mark.timeout(240)

SCRIPT = r"""
import json, sys
from datetime import date, datetime, timezone
from django.core.management import call_command
from django.core import mail
from wellos_jobs import ids, registry
from wellos_jobs.context import CurrentJob, running
from wellos_jobs.contrib import report_types
from wellos_jobs.models import JobRecord, Schedule
from example_project.demo import sample
from example_project.demo.partner import Partner
from example_project.invoices.models import Invoice
from example_project.invoices.recurring import daily_revenue_report, monthly_billing
from example_project.organizations.models import Organization
from example_project.timesheets.models import Project, TimeEntry
from example_project.timesheets.recurring import sync_time_entries, weekly_summary

told = {}

def row(name):
    one = Schedule.objects.get(name=name)
    return [one.cron, one.time_zone, one.job_name, one.data, one.next_run_at.isoformat()]

def due(job, *when):
    made = ids.tick_id("default:1:" + job.name, datetime(*when, tzinfo=timezone.utc))
    with running(CurrentJob(str(made), job.name, "scheduled-tasks", 1, 3)):
        return job()

def mails(subject):
    found = JobRecord.objects.filter(name="send-email", data__subject=subject).order_by("data__to")
    return [[one.data["to"], one.data["data"]["text"], one.organization_id] for one in found]

call_command("jobs_sync", verbosity=0)
sample.load("password", "password")
told["declared"] = {
    one.name: [one.cron, one.time_zone, one.source] for one in Schedule.objects.exclude(name__startswith="org-report:")
}
told["queues"] = {job.name: job.queue for job in registry.all_jobs()}

# organizations
told["reports"] = {one.organization_id: row(one.name)[:4] for one in Schedule.objects.filter(job_name="org-report")}
new = Organization.objects.create(slug="nova", name="Nova", email="office@nova.example", time_zone="Asia/Tokyo")
told["new"] = row("org-report:nova")
new.time_zone = "America/New_York"
new.save()
told["moved"] = row("org-report:nova")
Schedule.objects.filter(name="org-report:nova").update(cron="0 6 * * 1")
new.name = "Nova 2"
new.save()
told["kept"] = row("org-report:nova")[0]
new.delete()
told["gone"] = Schedule.objects.filter(name="org-report:nova").exists()
told["types"] = [kind.name for kind in report_types.for_organizations()]
told["hours"] = [sorted({line["project__organization__name"] for line in report_types.find("hours").rows(
    report_types.DateRange(date(2026, 10, 1), date(2026, 10, 31)), who)}) for who in ("acme", "")]
told["revenue"] = sorted({line["number"][:4] for line in report_types.find("revenue").rows(
    report_types.DateRange(date(2026, 10, 1), date(2026, 10, 31)), "kiwi")})

# what is due when: invoices are issued on 31 October
told["revenue of 31 Oct"] = due(daily_revenue_report, 2026, 11, 1, 12)
told["revenue of 30 Oct"] = due(daily_revenue_report, 2026, 10, 31, 12)
due(daily_revenue_report, 2026, 11, 1, 12)
told["revenue mails"] = mails("Revenue of 31 Oct 2026")

told["week"] = [due(weekly_summary, 2026, 10, 26, 9), due(weekly_summary, 2026, 10, 26, 9)]
told["week by hand"] = sum(TimeEntry.objects.filter(
    day__range=(date(2026, 10, 19), date(2026, 10, 25))).values_list("minutes", flat=True))
told["week mails"] = mails("Your week from 19 Oct 2026")

told["nothing to bill"] = due(monthly_billing, 2026, 9, 1)
told["not billed"] = TimeEntry.objects.filter(invoice_line=None, billable=True).count()
project = Project.objects.filter(organization="fjord").first()
TimeEntry.objects.create(project=project, description="Late", day=date(2026, 11, 3), minutes=60)
told["to bill"] = [due(monthly_billing, 2026, 12, 1), due(monthly_billing, 2026, 12, 1)]
told["flows"] = sorted(JobRecord.objects.exclude(flow_id=None).values_list("name", "organization_id"))

told["no sync"] = due(sync_time_entries, 2026, 11, 1)
TimeEntry.objects.create(project=project, description="x", day=date(2026, 11, 3), minutes=60, external_id="e-1")
partner = Partner()
partner.start()
from django.test import override_settings
with override_settings(TIME_ENTRIES_URL=f"{partner.url}/time-entries"):
    told["sync"] = [due(sync_time_entries, 2026, 11, 1, 0, 15), due(sync_time_entries, 2026, 11, 1, 0, 15)]
told["project"] = project.pk
told["imports"] = [one.data["project_id"] for one in JobRecord.objects.filter(name="import-time-entries")]
partner.stop()
print("TOLD", json.dumps(told, default=str))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the script found, on a fresh database of the example."""
    folder = tmp_path_factory.mktemp("example") / "state"
    for arguments in (
        ("migrate", "--verbosity=0"),
        ("check", "--fail-level=WARNING"),
        ("shell", "-c", SCRIPT),
    ):
        process = demo_process.manage(folder, *arguments)
        assert process.wait(120) == 0, process.output()
    (line,) = re.findall(r"^TOLD (.*)$", process.output(), flags=re.M)
    yield json.loads(line)


def test_seven_schedules_are_declared(told: dict[str, Any]) -> None:
    assert told["declared"] == {
        "cleanup-expired-tokens": ["0 2 * * *", "", "code"],
        "cleanup-orphaned-files": ["0 3 * * *", "", "code"],
        "cleanup-pending-users": ["0 * * * *", "", "code"],
        "daily-revenue-report": ["0 8 * * *", "America/New_York", "code"],
        "weekly-summary": ["0 9 * * 1", "", "code"],
        "monthly-billing": ["0 0 1 * *", "", "code"],
        "sync-time-entries": ["*/15 * * * *", "", "code"],
    }
    queues = {name: told["queues"][name] for name in [*told["declared"], "org-report"]}
    assert queues == {
        **{
            name: "cleanup" if name.startswith("cleanup-") else "scheduled-tasks"
            for name in told["declared"]
        },
        "org-report": "dynamic",
    }


def test_each_organization_has_its_report_in_its_own_zone(told: dict[str, Any]) -> None:
    assert told["reports"].keys() == {"acme", "fjord", "kiwi", "lodz"}
    line, zone, job, data = told["reports"]["acme"]
    assert (line, zone, job) == ("0 7 1 * *", "", "org-report")
    assert (data["report_type"], data["recipients"]) == ("hours", ["office@acme.example"])
    assert sorted(told["types"]) == ["hours", "revenue", "time-entries"]


def test_a_schedule_comes_moves_and_goes_with_its_organization(told: dict[str, Any]) -> None:
    assert told["new"][4].split("T")[1] == "22:00:00+00:00"  # 07:00 in Tokyo
    assert told["moved"][4].split("T")[1] in (
        "11:00:00+00:00",
        "12:00:00+00:00",
    )  # 07:00 in New York
    assert told["kept"] == "0 6 * * 1"
    assert told["gone"] is False


def test_reports_show_one_organization_or_all(told: dict[str, Any]) -> None:
    assert told["hours"][0] == ["Acme Architects"]
    assert len(told["hours"][1]) == 4
    assert told["revenue"] == ["KIWI"]


def test_daily_revenue(told: dict[str, Any]) -> None:
    found = told["revenue of 31 Oct"]
    assert found["day"] == "2026-10-31"
    assert found["revenue"].keys() == {
        "Acme Architects",
        "Fjord & Söner AB",
        "Kiwi Care Ltd",
        "Łódź Studio sp. z o.o.",
    }
    assert re.fullmatch(r"\d+\.\d\d USD", found["revenue"]["Acme Architects"])
    assert told["revenue of 30 Oct"] == {"day": "2026-10-30", "revenue": {}}
    ((to, text, _),) = told["revenue mails"]  # one, though it ran twice
    assert to == "admin@wellos.example"
    assert f"Acme Architects: {found['revenue']['Acme Architects']}" in text


def test_weekly_summary(told: dict[str, Any]) -> None:
    assert told["week"] == [{"organizations": 4, "minutes": told["week by hand"]}] * 2
    assert told["week by hand"] > 0
    assert [mail[::2] for mail in told["week mails"]] == [
        [f"office@{slug}.example", slug] for slug in ("acme", "fjord", "kiwi", "lodz")
    ]
    assert "Website: " in told["week mails"][0][1]


def test_monthly_billing(told: dict[str, Any]) -> None:
    assert told["nothing to bill"] == {"month": "2026-08", "organizations": []}
    assert told["not billed"] == 0
    assert told["to bill"] == [
        {"month": "2026-11", "organizations": ["fjord"]},
        {"month": "2026-11", "organizations": []},  # a repeated run bills nothing twice
    ]
    names = [
        "calculate-billable-hours",
        "generate-invoice-pdf",
        "monthly-invoicing",
        "send-invoice-email",
    ]
    assert told["flows"] == [[name, "fjord"] for name in names]


def test_sync_of_time_entries(told: dict[str, Any]) -> None:
    assert told["no sync"]["projects"] == []
    assert told["sync"] == [{"projects": [told["project"]]}] * 2
    assert told["imports"] == [told["project"]]
