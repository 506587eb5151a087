"""Schedules: lists, permissions, queries, forms, preview and audit entries."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from django.contrib.admin import AdminSite
from django.contrib.admin import site as default_site
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.utils import timezone

from wellos_jobs import admin, operations, schedules
from wellos_jobs.broker import keys
from wellos_jobs.contrib import report_types, reports
from wellos_jobs.cron import Cron
from wellos_jobs.definitions import ids, registry
from wellos_jobs.definitions.validation import define
from wellos_jobs.errors import InvalidOperation
from wellos_jobs.models import AuditEntry, JobRecord, OrganizationReportSchedule, Schedule
from wellos_jobs.monitoring import schedule_runs
from wellos_jobs.schedules import ticks
from wellos_jobs.states import JobState

from .. import jobs
from ..conftest import UseRedis
from ..support import optional_parts
from ..support.browser import axe, login, narrow
from ..support.engine import Books, work
from ..support.servers import free_port
from .test_all_pages import act, browser, messages, operation_url, text

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/wellos_jobs/schedule/"
REPORTS = "/admin/wellos_jobs/organizationreportschedule/"
PREVIEW = f"{LIST}preview/"

WHEN = {
    "cron": "0 8 * * *",
    "time_zone": "Europe/Paris",
    "starts_at_0": "",
    "starts_at_1": "",
    "ends_at_0": "",
    "ends_at_1": "",
    "catch_up": "once",
    "catch_up_limit": "100",
    "overlap": "allow",
    "enabled": "on",
    "reason": "asked for",
}
FORM = {
    "name": "morning",
    "job_name": "test-add",
    "data": '{"a": 1}',
    "organization_id": "",
    **WHEN,
}
REPORT_FORM = {
    "organization_id": "acme",
    "report_type": "hours",
    "format": "csv",
    "recipients": "a@acme.example",
    **WHEN,
}


@pytest.fixture(autouse=True)
def _project(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    monkeypatch.setattr(report_types, "_types", {})
    reports.register("hours", title="Hours worked", fetch=_fetch, columns={"a": "A"})
    reports.register("everything", title="Everything", fetch=lambda days: [], columns={"a": "A"})
    with registry.isolated():
        yield


def _fetch(days: reports.DateRange, organization: str = "") -> list[Any]:
    return []


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@wellos.example"))
    return client


def make(name: str = "nightly", **columns: Any) -> Schedule:
    columns = {"job_name": "test-noop", "cron": "0 2 * * *", "time_zone": "Europe/Paris", **columns}
    return Schedule.objects.create(name=name, **columns)


def declared(name: str = "test-noop", line: str = "0 2 * * *") -> Schedule:
    """A declared schedule."""
    registry.register(define(name, jobs.noop.function, schedule=Cron(line, tz="Europe/Paris")))
    schedules.synchronize()
    return Schedule.objects.get(name=name)


def put(row: Schedule, **columns: Any) -> None:
    """Set columns as the scheduler would."""
    Schedule._base_manager.filter(pk=row.pk).update(**columns)


def ran(row: Schedule, due: datetime, **columns: Any) -> JobRecord:
    """A job of a schedule for a due time."""
    columns = {
        "name": row.job_name,
        "queue": "default",
        "created_at": due,
        "state": "completed",
        **columns,
    }
    return JobRecord.objects.create(pk=ids.tick_id(row.key, due), schedule=row, **columns)


def audit() -> list[tuple[str, str, str, Any]]:
    entries = AuditEntry.objects.filter(target_type="schedule").order_by("pk")
    return [
        (entry.action, entry.detail["name"], entry.actor_name, entry.detail.get("changes"))
        for entry in entries
    ]


# --- lists ----------------------------------------------------------------------------------------


def test_the_list(root: Client) -> None:
    row = make(organization_id="acme")
    due = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    job = ran(row, due, state="failed")
    soon = timezone.now() + timedelta(hours=3, seconds=30)
    put(row, last_run_at=due, last_job=job, next_run_at=soon, missed=4, missed_at=due)
    page = root.get(LIST)
    shown = text(page)
    for part in (
        *("nightly", "At 02:00 every day", "0 2 * * *", "Europe/Paris"),
        *(
            "2026-03-29 03:00 CEST failed",
            "in 3 h 0 min",
            "4 runs missed",
            "test-noop · by hand",
            "acme",
            "1 schedule ",
        ),
    ):
        assert part in shown, part
    assert f'href="{operation_url(job)}"' in page.content.decode()
    assert f"{soon.astimezone(ZoneInfo('Europe/Paris')):%Y-%m-%d %H:%M}" in shown


def test_inactive_schedules_are_marked(root: Client) -> None:
    broken, late, off = make("broken"), make("late"), make("off", enabled=False)
    gone = declared("test-gone")
    with registry.isolated():
        registry._jobs.pop("test-gone")
        schedules.synchronize()
    put(broken, broken="UnknownJob: nobody declares <b>it</b>")
    put(late, next_run_at=timezone.now() - timedelta(minutes=5))
    page = root.get(LIST).content.decode()
    assert re.search(
        r"wj-broken.>broken</span><br><span class=.wj-quiet.>UnknownJob: nobody declares &lt;b&gt;",
        page,
    )
    assert page.count('class="wj-badge wj-overdue"') == 1
    assert page.count("no longer declared") == 1
    assert "It is no longer declared" in text(root.get(operation_url(gone)))
    assert "UnknownJob: nobody declares <b>it</b>" in text(root.get(operation_url(broken)))
    for query, name in (
        ("condition=broken", "broken"),
        ("condition=overdue", "late"),
        ("enabled__exact=0", "off"),
    ):
        shown = root.get(f"{LIST}?{query}")
        assert operation_url(Schedule.objects.get(name=name)) in shown.content.decode(), query
    assert off.next_run_at is None


def test_filters_and_search(root: Client) -> None:
    make("by-hand", organization_id="acme", catch_up="all")
    declared("test-noop", "30 4 * * *")
    put(Schedule.objects.get(name="test-noop"), missed=1)
    for query, wanted in (
        ("source=code", "test-noop"),
        ("source=hand", "by-hand"),
        ("organization=acme", "by-hand"),
        ("organization=-", "test-noop"),
        ("catch_up=all", "by-hand"),
        ("condition=missed", "test-noop"),
        ("q=30 4", "test-noop"),
        ("q=acme", "by-hand"),
    ):
        page = root.get(f"{LIST}?{query}")
        assert "1 schedule " in text(page), query
        assert operation_url(Schedule.objects.get(name=wanted)) in page.content.decode(), query
    assert "0 schedules" in text(root.get(f"{LIST}?organization=nobody"))


def test_removed_ones_are_not_listed(root: Client) -> None:
    row = declared()
    schedules.remove_schedule(row.name)
    assert "0 schedules" in text(root.get(LIST))
    assert root.get(operation_url(row)).status_code == 302


def test_reports_link_to_their_own_form(root: Client) -> None:
    row = schedules.schedule_organization_reports("acme", "0 7 * * 1", report_type="hours")
    assert f'href="{REPORTS}{row.pk}/change/' in root.get(LIST).content.decode()
    page = root.get(REPORTS)
    for part in ("acme", "hours", "PDF", "At 07:00 every Monday"):
        assert part in text(page)
    assert f'href="{LIST}"' in page.content.decode()
    assert f'href="{REPORTS}"' in root.get(LIST).content.decode()


@pytest.mark.parametrize("url", [LIST, REPORTS])
def test_list_queries_are_constant(root: Client, url: str, round_trips: Any) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connections["default"]) as captured:
            assert root.get(url).status_code == 200
        return len(captured)

    def add(number: int) -> None:
        row = schedules.schedule_organization_reports(f"o{number}", "0 7 * * 1")
        put(row, last_job=ran(row, timezone.now()), last_run_at=timezone.now())

    add(0)
    before = cost()
    for number in range(1, 10):
        add(number)
    assert cost() == before
    assert (
        before <= 6
    )  # session, user, the filter's organizations, count, rows with their last jobs
    with round_trips.counting() as trips:
        root.get(url)
    assert len(trips) == 1  # what the clock has set aside


# --- organizations --------------------------------------------------------------------------------

resolver_calls: list[str] = []


def resolve(organization_id: str) -> dict[str, str] | None:
    resolver_calls.append(organization_id)
    if organization_id == "broken":
        raise LookupError(organization_id)
    if organization_id == "nobody":
        return None
    return {
        "label": f"The {organization_id} <company>",
        "url": "/o/",
        "time_zone": "Pacific/Auckland",
    }


def test_organization_time_zones_are_resolved_once(root: Client, settings: Any) -> None:
    settings.WELLOS_JOBS = {"ORGANIZATION_RESOLVER": f"{__name__}.resolve"}
    for number in range(3):
        make(f"s{number}", organization_id="acme", time_zone="")
    make("worse", organization_id="broken", time_zone="UTC")
    put(Schedule.objects.get(name="worse"), time_zone="")
    resolver_calls.clear()
    page = root.get(LIST)
    assert sorted(resolver_calls) == ["acme", "broken"]
    assert page.content.decode().count('<a href="/o/">The acme &lt;company&gt;</a>') == 3
    assert text(page).count("Pacific/Auckland") == 3
    assert re.search(r"02:00 NZ[DS]T · in", text(page))
    schedules.schedule_organization_reports("globex", "0 7 * * 1")
    reports_page = root.get(REPORTS).content.decode()
    assert "The globex &lt;company&gt;</a>" in reports_page
    for content in (page.content.decode(), reports_page):
        assert not re.search(r"<a [^>]*>\s*<a ", content)  # a link within a link
    shown = text(root.get(operation_url(Schedule.objects.get(name="s0"))))
    assert "At 02:00 every day Pacific/Auckland (the organization's)" in shown


# --- the clock's panel ----------------------------------------------------------------------------


def test_the_list_warns_without_a_scheduler(root: Client, redis_client: redis.Redis) -> None:
    assert "No scheduler is running" in text(root.get(LIST))
    redis_client.set(keys.CLOCK, "somebody", px=5000)
    assert "No scheduler is running" not in text(root.get(LIST))


def test_broken_entries_are_shown(root: Client, redis_client: redis.Redis) -> None:
    reason = json.dumps({"reason": "ValueError: its <meta> is not JSON", "at": "2026"})
    redis_client.hset(keys.BROKEN_ENTRIES, "old-entry", reason)
    redis_client.hset(keys.BROKEN_ENTRIES, "strange", b"\xff no json")
    page = root.get(LIST)
    shown = text(page)
    assert "2 rq-scheduler entries are invalid and were disabled" in shown
    assert "old-entry ValueError: its <meta> is not JSON default" in shown
    assert "its &lt;meta&gt; is not JSON" in page.content.decode()
    for number in range(30):
        redis_client.hset(keys.BROKEN_ENTRIES, f"entry-{number:02}", reason)
    assert "and 12 more" in text(root.get(LIST))


def test_the_list_while_redis_is_down(root: Client, use_redis: UseRedis) -> None:
    make()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    shown = text(root.get(LIST))
    assert "The Redis of queue default is unavailable" in shown
    assert "nightly" in shown
    assert "No scheduler is running" not in shown


# --- preview --------------------------------------------------------------------------------------


def preview(client: Client, **query: str) -> str:
    response = client.get(PREVIEW, query)
    assert response.status_code == 200
    return text(response)


def test_the_preview_shows_ten_runs_in_the_zone(root: Client) -> None:
    response = root.get(PREVIEW, {"cron": "0 8 * * 1-5", "time_zone": "America/New_York"})
    shown = text(response)
    assert shown.startswith("At 08:00, Monday to Friday America/New_York ")
    assert len(re.findall(r"\d{4}-\d\d-\d\d 08:00 E[SD]T in \d+ ", shown)) == 10
    assert "<html" not in response.content.decode()
    assert "no-store" in response["Cache-Control"]


def test_the_preview_warns_of_clock_changes(root: Client) -> None:
    shown = preview(root, cron="30 2 * * *", time_zone="Europe/Paris")
    assert re.search(r"02:30 does not exist on 20\d\d-03-\d\d; it runs at 03:00", shown)
    assert re.search(r"02:30 comes twice on 20\d\d-10-\d\d; it runs once", shown)
    assert "clock" not in preview(root, cron="30 2 * * *", time_zone="UTC")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({"cron": "61 * * * *"}, "'61 * * * *' is not a cron line: minute 61 is above 59"),
        ({"cron": "0 8 * * *", "time_zone": "Europe/Pariss"}, "did you mean 'Europe/Paris'?"),
        ({"cron": ""}, "to see the next runs"),
        ({}, "to see the next runs"),
        ({"cron": "@every 90"}, "Every 90 seconds UTC (the project's)"),
        ({"cron": "* * * * * *"}, "UTC (the project's)"),
        (
            {"cron": "0 8 * * *", "ends_at_0": "2020-01-01", "ends_at_1": "00:00"},
            "There are no further runs.",
        ),
        (
            {"cron": "0 8 * * *", "ends_at_0": "soon", "ends_at_1": ""},
            "Ends at: Enter a valid date.",
        ),
        ({"cron": "<script>"}, "is not a cron line"),
        ({"cron": "x" * 500}, "at most 120 characters"),
    ],
)
def test_the_preview_of_incomplete_input(root: Client, query: dict[str, str], shown: str) -> None:
    assert shown in preview(root, **query)
    assert b"<script" not in root.get(PREVIEW, query).content


def test_the_preview_within_start_and_end(root: Client) -> None:
    day = (timezone.now() + timedelta(days=400)).date()
    shown = preview(
        root,
        cron="0 8 * * *",
        starts_at_0=str(day),
        starts_at_1="00:00",
        ends_at_0=str(day + timedelta(days=2)),
        ends_at_1="23:00",
    )
    assert re.findall(r"(\d{4}-\d\d-\d\d) 08:00 UTC", shown) == [
        str(day + timedelta(days=n)) for n in range(3)
    ]
    assert "There are no runs after these." in shown


def test_the_preview_needs_a_permission() -> None:
    assert browser().get(PREVIEW).status_code == 403
    assert browser("view_schedule").get(PREVIEW).status_code == 200
    assert browser("add_schedule").get(PREVIEW).status_code == 200
    assert browser("change_schedule").post(PREVIEW).status_code == 405
    assert Client().get(PREVIEW).status_code == 302
    assert browser("view_organizationreportschedule").get(f"{REPORTS}preview/").status_code == 200


def test_without_javascript_the_page_has_the_preview(root: Client) -> None:
    row = make()
    assert len(re.findall(r"02:00 CES?T in", text(root.get(operation_url(row))))) >= 10
    response = root.post(f"{LIST}add/", {**FORM, "name": "", "cron": "0 9 * * *"})
    assert "This field is required." in text(response)
    assert len(re.findall(r"09:00 CES?T in", text(response))) == 10


# --- the form of a schedule -----------------------------------------------------------------------


def test_add(root: Client) -> None:
    response = root.post(f"{LIST}add/", FORM, follow=True)
    assert "was added successfully" in messages(response)[0]
    row = Schedule.objects.get()
    assert (row.name, row.job_name, row.data, row.cron, row.time_zone) == (
        *("morning", "test-add", {"a": 1}, "0 8 * * *", "Europe/Paris"),
    )
    assert row.next_run_at is not None
    ((action, name, actor, changes),) = audit()
    assert (action, name, actor) == ("created", "morning", "root")
    assert changes["cron"] == [None, "0 8 * * *"]
    root.post(f"{LIST}add/", {**FORM, "name": "without", "reason": ""})
    assert audit()[-1][:2] == ("created", "without")


@pytest.mark.parametrize(
    ("change", "field", "fault"),
    [
        ({"cron": "61 * * * *"}, "cron", "minute 61 is above 59"),
        ({"cron": ""}, "cron", "required"),
        ({"time_zone": "Mars/Base"}, "time_zone", "is not a time zone"),
        ({"data": '{"a": 1, "c": 1}'}, "data", "unknown argument 'c'"),
        ({"data": "[1]"}, "data", "JSON object"),
        ({"data": "{"}, "data", "valid JSON"),
        ({"job_name": "no-such-job"}, "job_name", "Select a valid choice"),
        ({"name": "nightly"}, "name", "already exists"),
        ({"catch_up_limit": "0"}, "catch_up_limit", "greater than or equal to 1"),
        (
            {
                "starts_at_0": "2026-05-02",
                "starts_at_1": "00:00",
                "ends_at_0": "2026-05-01",
                "ends_at_1": "00:00",
            },
            "ends_at",
            "The end must",
        ),
    ],
)
def test_errors_are_shown_at_the_field(
    root: Client, change: dict[str, str], field: str, fault: str
) -> None:
    make()
    response = root.post(f"{LIST}add/", {**FORM, **change})
    errors = response.context["adminform"].form.errors
    assert list(errors) == [field]
    assert fault in " ".join(errors[field])
    assert Schedule.objects.count() == 1
    assert audit() == []


def test_change(root: Client) -> None:
    row = make(data={})
    before = row.next_run_at
    page = root.get(operation_url(row))
    form = {**FORM, "job_name": "test-noop", "data": "{}", "cron": "30 9 * * *"}
    assert 'name="name"' not in page.content.decode()  # jobs' ids are made of it
    response = root.post(operation_url(row), form, follow=True)
    assert "was changed successfully" in messages(response)[0]
    row.refresh_from_db()
    assert (row.name, row.cron) == ("nightly", "30 9 * * *")
    assert row.next_run_at != before
    assert audit() == [("changed", "nightly", "root", {"cron": ["0 2 * * *", "30 9 * * *"]})]
    assert AuditEntry.objects.get().reason == "asked for"
    assert "asked for" in text(root.get(operation_url(row)))
    refused = root.post(operation_url(row), {**form, "cron": "31 9 * * *", "reason": " "})
    assert list(refused.context["adminform"].form.errors) == ["reason"]
    root.post(operation_url(row), form)
    assert len(audit()) == 1  # nothing was changed


def test_sensitive_data_is_masked_and_kept(root: Client) -> None:
    row = make(job_name="test-secret", data={"token": "open sesame"})
    sealed = row.data["token"]
    page = root.get(operation_url(row)).content.decode()
    assert "open sesame" not in page
    assert sealed["$encrypted"] not in page
    form = {**FORM, "job_name": "test-secret", "data": '{"token": "********"}', "cron": "1 2 * * *"}
    root.post(operation_url(row), form)
    row.refresh_from_db()
    assert (row.cron, row.data["token"]) == ("1 2 * * *", sealed)
    root.post(operation_url(row), {**form, "data": '{"token": "swordfish"}'})
    row.refresh_from_db()
    assert row.data["token"] != sealed
    kept = json.dumps([entry.detail for entry in AuditEntry.objects.all()]) + json.dumps(row.data)
    assert "swordfish" not in kept
    assert '"data": [{"token": "********"}, {"token": "********"}]' in kept
    viewer = browser("view_schedule").get(operation_url(row)).content.decode()
    assert row.data["token"]["$encrypted"] not in viewer


def test_declared_fields_are_read_only(root: Client) -> None:
    row = declared()
    page = root.get(operation_url(row)).content.decode()
    assert not re.search(r'name="(name|job_name|data)"', page)
    form = {
        **WHEN,
        "organization_id": "",
        "job_name": "test-add",
        "data": '{"a": 1}',
        "cron": "0 5 * * *",
    }
    root.post(operation_url(row), form)
    row.refresh_from_db()
    assert (row.job_name, row.cron) == ("test-noop", "0 5 * * *")
    schedules.synchronize()
    row.refresh_from_db()
    assert row.cron == "0 5 * * *"
    shown = text(root.get(operation_url(row)))
    assert "Changed in the admin; the declared values do not apply: cron 0 2 * * *" in shown
    assert "code, changed in the admin" in text(root.get(LIST))


def test_an_invalid_stored_row_can_be_fixed(root: Client) -> None:
    row = make()
    put(row, cron="61 * * * *", broken="CronError: no", job_name="gone")
    assert "invalid cron expression" in text(root.get(LIST))
    shown = text(root.get(operation_url(row)))
    assert "minute 61 is above 59" in shown
    root.post(operation_url(row), {**FORM, "job_name": "test-noop", "data": "{}"})
    row.refresh_from_db()
    assert (row.cron, row.broken) == ("0 8 * * *", "")


def test_errors_without_a_field_are_shown_above_the_form(root: Client) -> None:
    row = declared()
    put(row, job_name="gone")
    response = root.post(operation_url(row), {**WHEN, "organization_id": ""})
    assert "job_name: No job is declared under the name 'gone'" in text(response)


# --- the form of a report -------------------------------------------------------------------------


def test_add_a_report(root: Client) -> None:
    form = {
        **REPORT_FORM,
        "recipients": "a@acme.example, b@acme.example\r\nA@acme.example;\r\n c@acme.example\r\n",
    }
    response = root.post(f"{REPORTS}add/", form, follow=True)
    assert "was added successfully" in messages(response)[0]
    row = OrganizationReportSchedule.objects.get()
    assert (row.name, row.job_name, row.organization_id) == (
        "org-report:acme",
        "org-report",
        "acme",
    )
    assert (row.report_type, row.format) == ("hours", "csv")
    assert row.recipients == ["a@acme.example", "b@acme.example", "c@acme.example"]
    assert row.data["organization_id"] == "acme"
    assert [entry[:3] for entry in audit()] == [("created", "org-report:acme", "root")]


def test_choices_of_the_report_form(root: Client) -> None:
    page = root.get(f"{REPORTS}add/").content.decode()
    choices = re.findall(
        r'<option value="([^"]*)"[^>]*>([^<]*)',
        page.split('name="report_type"')[1].split("</select>")[0],
    )
    assert choices == [("", "default (Hours worked)"), ("hours", "Hours worked")]
    reports.unregister("hours")
    assert 'type="text" name="report_type"' in root.get(f"{REPORTS}add/").content.decode()


@pytest.mark.parametrize(
    ("change", "field", "fault"),
    [
        (
            {"recipients": "a@acme.example, nobody, a@"},
            "recipients",
            "“nobody” is not a valid email address. “a@” is not",
        ),
        ({"organization_id": ""}, "organization_id", "required"),
        ({"organization_id": "taken"}, "organization_id", "has a report schedule"),
        ({"organization_id": "nobody"}, "organization_id", "Organization “nobody” does not exist"),
        ({"organization_id": "broken"}, "organization_id", "Organization “broken” does not exist"),
        ({"format": "xls"}, "format", "Select a valid choice"),
        ({"report_type": "everything"}, "report_type", "Select a valid choice"),
        ({"cron": "0 25 * * *"}, "cron", "hour 25 is above 23"),
    ],
)
def test_errors_of_a_report_are_shown_at_the_field(
    root: Client, settings: Any, change: dict[str, str], field: str, fault: str
) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "ORGANIZATION_RESOLVER": f"{__name__}.resolve"}
    schedules.schedule_organization_reports("taken", "0 7 * * 1")
    response = root.post(f"{REPORTS}add/", {**REPORT_FORM, **change})
    errors = response.context["adminform"].form.errors
    assert list(errors) == [field]
    assert fault in " ".join(errors[field])
    assert OrganizationReportSchedule.objects.count() == 1


def test_change_a_report(root: Client) -> None:
    row = schedules.schedule_organization_reports(
        "acme", "0 7 * * 1", recipients=["a@acme.example"]
    )
    page = root.get(operation_url(row)).content.decode()
    assert "a@acme.example" in page
    assert 'name="organization_id"' not in page
    form = {**REPORT_FORM, "recipients": "z@acme.example", "organization_id": "other"}
    root.post(operation_url(row), form)
    row = OrganizationReportSchedule.objects.get()
    assert (row.organization_id, row.data["organization_id"]) == ("acme", "acme")
    assert (row.recipients, row.format, row.cron) == (["z@acme.example"], "csv", "0 8 * * *")
    ((action, name, _actor, changes),) = audit()
    assert (action, name) == ("changed", "org-report:acme")
    assert changes["data"][1]["recipients"] == ["z@acme.example"]


def test_an_unregistered_report_type_is_kept(root: Client) -> None:
    row = schedules.schedule_organization_reports("acme", "0 7 * * 1", report_type="old")
    assert "old (not registered)" in text(root.get(operation_url(row)))
    root.post(operation_url(row), {**REPORT_FORM, "report_type": "old"})
    assert OrganizationReportSchedule.objects.get().report_type == "old"


# --- without a job that makes such reports --------------------------------------------------------


def test_no_report_schedules_without_a_report_job(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = schedules.schedule_organization_reports("acme", "0 7 * * 1")
    link = f'href="{REPORTS}"'
    for there in (True, False):
        assert (link in root.get("/admin/").content.decode()) is there
        assert (link in root.get("/admin/wellos_jobs/").content.decode()) is there
        assert (link in root.get(LIST).content.decode()) is there
        form = operation_url(row) if there else f"{LIST}{row.pk}/change/"
        assert f'href="{form}' in root.get(LIST).content.decode()
        assert root.get(form).status_code == 200
        for url in (
            REPORTS,
            f"{REPORTS}add/",
            operation_url(row),
            f"{REPORTS}{row.pk}/delete/",
            f"{REPORTS}preview/",
        ):
            assert root.get(url).status_code == (200 if there else 403), url
        monkeypatch.delitem(registry._jobs, schedules.REPORT_JOB, raising=False)
    assert root.post(operation_url(row), REPORT_FORM).status_code == 403
    delete(root, row)
    assert not Schedule.objects.exists()


WITHOUT_CONTRIB = """
from tests import settings
settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "wellos_jobs.contrib"]
import django
django.setup()
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import RequestFactory
request = RequestFactory().get("/")
request.user = User(is_superuser=True, is_active=True, is_staff=True)
for app in admin.site.get_app_list(request, "wellos_jobs"):
    print(*sorted(model["object_name"] for model in app["models"]))
"""


def test_a_project_without_contrib() -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_CONTRIB],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    models = ran.stdout.split()
    assert "Schedule" in models
    assert "OrganizationReportSchedule" not in models


# --- history --------------------------------------------------------------------------------------


def test_the_page_shows_the_last_runs(root: Client) -> None:
    row = make()
    base = datetime(2026, 3, 1, 1, 0, tzinfo=UTC)
    for day in range(25):
        due = base + timedelta(days=day)
        times = {"enqueued_at": due, "started_at": due + timedelta(seconds=2)}
        ran(
            row,
            due,
            **times,
            finished_at=due + timedelta(seconds=5.5),
            state="failed" if day == 24 else "completed",
        )
    handle = schedules.run_now(row, requested_by=User.objects.get(username="root"))
    page = root.get(operation_url(row))
    shown = text(page)
    assert "2026-03-25 02:00 CET failed 0/3 2.0 s 3.5 s" in shown
    assert "run now by root waiting" in shown
    assert len(page.context["history"]) == 20
    assert "2026-03-07 02:00 CET completed" in shown
    assert "2026-03-06 02:00" not in shown
    content = page.content.decode()
    assert f'href="{operation_url(handle.record())}"' in content
    (every,) = re.findall(r'href="(/admin/wellos_jobs/jobrecord/\?schedule[^"]+)"', content)
    assert "26 jobs" in text(root.get(every))


def test_queries_of_the_page_are_constant(root: Client) -> None:
    row = make()

    def cost() -> int:
        with CaptureQueriesContext(connections["default"]) as captured:
            assert root.get(operation_url(row)).status_code == 200
        return len(captured)

    ran(row, timezone.now(), requested_by=User.objects.get(username="root"))
    operations.disable_schedule(row)
    cost()
    before = cost()
    for number in range(1, 15):
        someone = User.objects.create_user(f"u{number}")
        ran(
            row,
            timezone.now() + timedelta(minutes=number),
            requested_by=someone,
            context={"run_now": True},
        )
        (operations.enable_schedule if number % 2 else operations.disable_schedule)(row)
    assert cost() == before
    assert before <= 10


@pytest.mark.parametrize("pk", ["nonsense", "4711"])
def test_a_missing_schedule(root: Client, pk: str) -> None:
    assert root.get(f"{LIST}{pk}/change/").status_code == 302


# --- actions --------------------------------------------------------------------------------------


def test_disable_and_enable(root: Client) -> None:
    rows = [make("a"), make("b"), make("c", enabled=False)]
    shown = text(act(root, LIST, "disable_schedules", rows))
    for part in (
        "2 schedules enqueue no more jobs",
        "1 is already disabled",
        "Recorded in the audit log",
    ):
        assert part in shown
    assert Schedule.objects.filter(enabled=True).count() == 2
    response = act(root, LIST, "disable_schedules", rows, confirm="yes", reason="moving house")
    assert messages(response) == ["2 schedules disabled", "Schedule c is disabled already"]
    assert not Schedule.objects.filter(enabled=True).exists()
    assert not Schedule.objects.exclude(next_run_at=None).exists()
    response = act(root, LIST, "enable_schedules", rows, confirm="yes", reason="there")
    assert messages(response) == ["3 schedules enabled"]
    assert Schedule.objects.filter(next_run_at__gt=timezone.now()).count() == 3
    entries = AuditEntry.objects.filter(target_type="schedule")
    assert {(entry.action, entry.reason, entry.address) for entry in entries} == {
        ("disabled", "moving house", "127.0.0.1"),
        ("enabled", "there", "127.0.0.1"),
    }
    shown = text(root.get("/admin/wellos_jobs/auditentry/"))
    assert "schedule a" in shown
    assert operation_url(rows[0]) in root.get("/admin/wellos_jobs/auditentry/").content.decode()


def test_run_now(root: Client) -> None:
    row, off = make(), make("off", enabled=False)
    before = row.next_run_at
    assert "2 jobs are enqueued now, in addition to the scheduled runs" in text(
        act(root, LIST, "run_schedules", [row, off])
    )
    response = act(root, LIST, "run_schedules", [row, off], confirm="yes", reason="now, please")
    assert messages(response) == ["2 jobs enqueued"]
    work()
    Books().fold()
    found = JobRecord.objects.filter(schedule=row).get()
    assert (found.state, str(found.requested_by), found.context) == (
        JobState.COMPLETED,
        "root",
        {"run_now": True},
    )
    row.refresh_from_db()
    assert row.next_run_at == before
    entry = AuditEntry.objects.filter(action="ran", target_id=row.pk).get()
    assert (entry.detail["job"], entry.reason) == (str(found.pk), "now, please")


def test_schedules_that_cannot_run_are_reported(root: Client) -> None:
    good, bad = make(), make("bad")
    put(bad, job_name="gone")
    response = act(root, LIST, "run_schedules", [good, bad], confirm="yes", reason="x")
    assert messages(response)[0] == "1 job enqueued"
    assert (
        "Schedule bad cannot run: No job is declared under the name 'gone'" in messages(response)[1]
    )
    assert [entry[:2] for entry in audit()] == [("ran", "nightly")]
    put(bad, enabled=False)
    response = act(root, LIST, "enable_schedules", [bad], confirm="yes", reason="x")
    assert "Schedule bad cannot run: " in messages(response)[0]


def test_a_reason_is_required(root: Client) -> None:
    row = make()
    assert "This field is required." in text(
        act(root, LIST, "run_schedules", [row], confirm="yes", reason=" ")
    )
    assert JobRecord.objects.count() == 0


def test_the_buttons_fit_the_state(root: Client) -> None:
    for enabled, buttons in (
        (True, {"run_schedules", "disable_schedules"}),
        (False, {"run_schedules", "enable_schedules"}),
    ):
        row = make(f"s{enabled}", enabled=enabled)
        page = root.get(operation_url(row)).content.decode()
        assert set(re.findall(r'name="action" value="(\w+)"', page)) == buttons


# --- deleting -------------------------------------------------------------------------------------


def delete(client: Client, row: Schedule, **fields: str) -> Any:
    return client.post(
        f"{LIST}{row.pk}/delete/",
        {"confirm": "yes", "reason": "no longer needed", **fields},
        follow=True,
    )


def test_delete(root: Client) -> None:
    row = make()
    shown = text(root.get(f"{LIST}{row.pk}/delete/"))
    assert "1 schedule is deleted permanently; its jobs are kept" in shown
    assert "neither jobs_sync nor a restart" not in shown
    assert (
        f'class="wj-button" href="{operation_url(row)}"'
        in root.get(f"{LIST}{row.pk}/delete/").content.decode()
    )
    assert "This field is required" in text(delete(root, row, reason=""))
    assert Schedule.objects.exists()
    assert messages(delete(root, row)) == ["1 schedule deleted"]
    assert not Schedule._base_manager.exists()
    assert [entry[:3] for entry in audit()] == [("removed", "nightly", "root")]
    assert AuditEntry.objects.get().reason == "no longer needed"
    assert root.get(f"{LIST}{row.pk}/delete/").status_code == 404


def test_a_deleted_declared_schedule_stays_deleted(root: Client) -> None:
    row = declared()
    shown = text(root.get(f"{LIST}{row.pk}/delete/"))
    assert "1 schedule is declared in code or settings. Once deleted here" in shown
    delete(root, row)
    schedules.synchronize()
    assert not Schedule.objects.exists()
    response = root.post(
        f"{LIST}add/",
        {**FORM, "name": row.name, "job_name": "test-noop", "data": "{}"},
        follow=True,
    )
    assert "was added successfully" in messages(response)[-1]
    assert Schedule.objects.get().next_run_at is not None
    assert [entry[0] for entry in audit()] == ["removed", "created"]


def test_delete_several(root: Client) -> None:
    rows = [make("a"), declared()]
    assert "neither jobs_sync nor a restart" in text(act(root, LIST, "delete_selected", rows))
    assert "This field is required" in text(act(root, LIST, "delete_selected", rows, confirm="yes"))
    act(root, LIST, "delete_selected", rows, confirm="yes", reason="no longer needed")
    schedules.synchronize()
    assert not Schedule.objects.exists()
    assert sorted(entry[:2] for entry in audit()) == [("removed", "a"), ("removed", "test-noop")]


# --- permissions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [LIST, REPORTS])
def test_pages_need_their_view_permission(url: str) -> None:
    assert browser().get(url).status_code == 403
    assert Client().get(url).status_code == 302


def test_viewers_have_no_buttons() -> None:
    row = make(data={})
    report = schedules.schedule_organization_reports(
        "acme", "0 7 * * 1", recipients=["a@acme.example"]
    )
    viewer = browser("view_schedule", "view_organizationreportschedule", "view_payload")
    for page in (operation_url(row), operation_url(report), LIST, REPORTS):
        content = viewer.get(page).content.decode()
        assert not re.search(r'name="(action|_save)"|deletelink|addlink"', content), page
    shown = text(viewer.get(operation_url(report)))
    for part in ("a@acme.example", "At 07:00 every Monday", "acme"):
        assert part in shown
    for url, form in (
        (operation_url(row), FORM),
        (operation_url(report), REPORT_FORM),
        (f"{LIST}add/", FORM),
    ):
        assert viewer.post(url, form).status_code == 403, url
    assert (
        viewer.post(f"{LIST}{row.pk}/delete/", {"confirm": "yes", "reason": "x"}).status_code == 403
    )
    for action in ("enable_schedules", "disable_schedules", "run_schedules", "delete_selected"):
        for url, one in ((LIST, row), (REPORTS, report)):
            data = {
                "action": action,
                "_selected_action": [str(one.pk)],
                "confirm": "yes",
                "reason": "x",
            }
            assert viewer.post(url, data).status_code == 403, action
    assert AuditEntry.objects.count() == 0
    assert JobRecord.objects.count() == 0


@pytest.mark.parametrize(
    ("action", "permission"),
    [
        ("enable_schedules", "change_schedule"),
        ("disable_schedules", "change_schedule"),
        ("run_schedules", "run_schedule"),
    ],
)
def test_each_action_has_its_permission(action: str, permission: str) -> None:
    row = make(enabled=action != "enable_schedules")
    others = {"change_schedule", "run_schedule"} - {permission}
    data = {"action": action, "_selected_action": [str(row.pk)], "confirm": "yes", "reason": "x"}
    refused = browser("view_schedule", *others)
    assert action not in refused.get(LIST).content.decode()
    assert refused.post(LIST, data).status_code == 403
    doer = browser("view_schedule", permission)
    assert action in doer.get(operation_url(row)).content.decode()
    assert doer.post(LIST, data).status_code == 302
    assert AuditEntry.objects.count() == 1


def test_actions_need_the_csrf_token(root: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="root"))
    row = make()
    assert act(strict, LIST, "run_schedules", [row], confirm="yes", reason="x").status_code == 403
    assert strict.post(operation_url(row), FORM).status_code == 403


# --- operations -----------------------------------------------------------------------------------


def test_operations_are_audited() -> None:
    ada, row = User.objects.create_user("ada"), make()
    handle = operations.run_schedule_now(row, by=ada, reason="urgent", address="10.0.0.1")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target_type, entry.target_id, entry.actor_id) == (
        "ran",
        "schedule",
        str(row.pk),
        ada.pk,
    )
    assert (entry.reason, entry.address, entry.detail) == (
        *("urgent", "10.0.0.1", {"name": "nightly", "job": str(handle)}),
    )
    operations.disable_schedule(row)
    with pytest.raises(InvalidOperation, match="Schedule nightly is disabled already"):
        operations.disable_schedule(row)
    schedules.remove_schedule("nightly")
    for verb in (operations.enable_schedule, operations.delete_schedule):
        with pytest.raises(InvalidOperation, match="was already deleted"):
            verb(row)
    assert AuditEntry.objects.count() == 2


def test_disabled_time_is_not_caught_up() -> None:
    row = make(cron="* * * * *", catch_up="all")
    operations.disable_schedule(row)
    operations.enable_schedule(row)
    assert ticks.tick("default", timezone.now()) == 0
    row.refresh_from_db()
    assert row.missed == 0


# --- another site, Content-Security-Policy, escaping ----------------------------------------------

own_site = AdminSite("backoffice")
own_site.register(Schedule, admin.ScheduleAdmin)
own_site.register(OrganizationReportSchedule, admin.OrganizationReportScheduleAdmin)
lone_site = AdminSite("lone")
lone_site.register(Schedule, admin.ScheduleAdmin)
urlpatterns = [
    path("backoffice/", own_site.urls),
    path("lone/", lone_site.urls),
    path("admin/", default_site.urls),
    path("jobs/", include("wellos_jobs.urls")),
]


@pytest.mark.urls("tests.admin.test_schedules")
def test_on_a_custom_admin_site(root: Client) -> None:
    row = make()
    ran(row, timezone.now())
    report = schedules.schedule_organization_reports("acme", "0 7 * * 1")
    for site, pages in (
        ("backoffice", (LIST, REPORTS, operation_url(row), operation_url(report))),
        ("lone", (LIST, operation_url(row))),
    ):
        for url in pages:
            page = root.get(url.replace("/admin/", f"/{site}/"))
            assert page.status_code == 200
            assert not re.search(
                r'(href|action|data-preview-url)="/admin/', page.content.decode()
            ), (site, url)


def test_no_inline_script_or_style_and_texts_are_escaped(root: Client) -> None:
    evil = "<script>alert(1)</script>"
    row = make(evil, organization_id="<i>x</i>")
    report = schedules.schedule_organization_reports("acme", "0 7 * * 1", report_type=evil)
    ran(row, timezone.now(), error=evil)
    put(row, broken=evil, time_zone=evil)
    operations.run_schedule_now(report, reason=evil)
    pages = [
        root.get(url)
        for url in (
            LIST,
            REPORTS,
            f"{LIST}add/",
            f"{REPORTS}add/",
            operation_url(row),
            operation_url(report),
        )
    ]
    pages += [root.get(f"{LIST}{row.pk}/delete/"), act(root, LIST, "run_schedules", [row])]
    pages.append(act(root, LIST, "delete_selected", [row]))
    for page in pages:
        content = page.content.decode()
        assert page.status_code == 200
        assert evil not in content
        assert "<i>x</i>" not in content
        assert not re.search(r"<style|\sstyle=|\son\w+=", content)
        assert not re.search(
            r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")[^>]*>", content
        )
        assert not re.search(r'(?:src|href)="(?:https?:)?//', content)


# --- a real browser -------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_preview_updates_while_typing(root: Client, live_server: Any) -> None:
    from playwright.sync_api import sync_playwright

    row = make()
    cookie = {"name": "sessionid", "value": root.cookies["sessionid"].value, "url": live_server.url}
    faults: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=optional_parts.chromium(), args=["--no-sandbox"]
        )
        context = chromium.new_context(viewport={"width": 400, "height": 800})
        context.add_cookies([cookie])
        page = context.new_page()
        page.on(
            "console",
            lambda message: faults.append(message.text) if message.type == "error" else None,
        )
        page.goto(f"{live_server.url}{operation_url(row)}")
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        box = page.locator(".wj-preview")
        page.get_by_label("Cron line").fill("15 9 * * 1")
        box.get_by_text("At 09:15 every Monday").wait_for()
        page.get_by_label("Time zone").fill("Asia/Tokyo")
        box.get_by_text("Asia/Tokyo").wait_for()
        page.get_by_label("Cron line").fill("15 9 * *")
        box.get_by_text("is not a cron line").wait_for()
        context.clear_cookies()
        page.get_by_label("Cron line").fill("0 1 * * *")
        page.locator(".wj-preview.wj-stale").wait_for()
        assert "Log in" not in box.inner_text()
        chromium.close()
    assert not [
        fault for fault in faults if "Failed to load resource" not in fault and "ERR_" not in fault
    ], faults


# --- last runs and organization limits ------------------------------------------------------------


def test_last_runs_take_one_query(root: Client) -> None:
    row, other = make(cron="@every 60"), make(name="evening", cron="0 20 * * *")
    now = timezone.now()
    for number in range(15):
        at = now - timedelta(minutes=number)
        job = ran(row, at)
        state = JobState.FAILED if number == 3 else JobState.COMPLETED
        times = {"created_at": at, "started_at": at, "finished_at": at + timedelta(seconds=2)}
        JobRecord.objects.filter(pk=job.pk).update(state=state, **times)
    Schedule.objects.filter(pk=row.pk).update(last_run_at=now)
    found = schedule_runs.last_runs(JobRecord.objects.all(), list(Schedule.objects.all()))
    assert list(found) == [row.pk]
    assert (len(found[row.pk]), found[row.pk].failed, found[row.pk].seconds[-1]) == (10, 1, 2.0)
    assert "1 of 10 failed" in text(root.get(LIST))

    def cost() -> int:
        with CaptureQueriesContext(connections["default"]) as captured:
            root.get(LIST)
        return len(captured)

    before = cost()
    Schedule.objects.filter(pk=other.pk).update(last_run_at=now)
    ran(other, now)
    assert cost() == before


@pytest.fixture
def scoped(settings: Any) -> Client:
    hook = "tests.support.users.only_acme"
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "ADMIN_ORGANIZATIONS": hook}
    return browser("view_schedule", "change_schedule", "add_schedule", "run_schedule")


def test_schedules_of_other_organizations_are_hidden(scoped: Client) -> None:
    mine = make(name="mine", organization_id="acme")
    theirs = make(name="theirs", organization_id="globex")
    shown = text(scoped.get(LIST))
    assert "mine" in shown
    assert "theirs" not in shown
    assert "globex" not in shown
    assert "clock" not in shown.lower()
    assert scoped.get(operation_url(mine)).status_code == 200
    assert scoped.get(operation_url(theirs)).status_code == 302
    act(scoped, LIST, "run_schedules", [theirs])
    assert not JobRecord.objects.exists()


@pytest.mark.parametrize(
    ("organization", "refused"), [("acme", False), ("globex", True), ("", True)]
)
def test_schedules_need_a_visible_organization(
    scoped: Client, organization: str, refused: bool
) -> None:
    registry.register(dataclasses.replace(registry.get("test-add"), manual=True))
    answer = scoped.post(f"{LIST}add/", {**FORM, "organization_id": organization})
    assert Schedule.objects.exists() is not refused
    if refused:
        assert "You may not create schedules for this organization" in text(answer)


@pytest.mark.browser
def test_the_list_in_the_browser(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    row = make()
    JobRecord.objects.filter(pk=ran(row, timezone.now()).pk).update(state=JobState.COMPLETED)
    Schedule.objects.filter(pk=row.pk).update(last_run_at=timezone.now())
    page.goto(LIST)
    axe(page, without=("label-title-only",))  # Django's own search field
    narrow(page)
    page.get_by_label("Refresh").select_option("1")
    make(name="another")
    page.get_by_role("link", name="another").wait_for()
