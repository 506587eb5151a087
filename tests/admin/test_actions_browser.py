"""Click each admin button in a real browser: confirmation, message and audit entry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from wellos_jobs import Batch, Flow, Priority
from wellos_jobs.broker import queues
from wellos_jobs.models import AuditEntry, BulkOperation, DeadLetter, JobRecord, SavedView, Schedule
from wellos_jobs.monitoring import workers

from .. import jobs
from ..support.engine import Books, Hand, work
from ..support.shared_site import _empty_redis, filled, sheet, transactional_db  # fixtures

pytestmark = pytest.mark.browser
WHY = "because the partner asked for it"


@pytest.fixture
def page(sheet: Any) -> Iterator[Any]:
    """The shared browser page. Console errors fail the test."""
    del sheet.complaints[:]
    yield sheet
    assert not sheet.complaints


def open_page(page: Any, name: str, *arguments: Any, query: str = "") -> None:
    page.goto(reverse(f"admin:wellos_jobs_{name}", args=arguments) + query)


def confirm(page: Any, expected: str) -> None:
    """On a confirmation page: enter the reason, submit, and wait for the message."""
    page.get_by_label("Reason").fill(WHY)
    page.locator("button.wj-go").click()
    page.locator(".messagelist, .wj-messages").get_by_text(re.compile(expected)).wait_for()


def audited(action: str, target_type: str = "") -> AuditEntry:
    """Return the newest entry of an action, which must have the reason."""
    found = AuditEntry.objects.filter(action=action, reason=WHY)
    entry = (found.filter(target_type=target_type) if target_type else found).order_by("pk").last()
    assert entry is not None, f"no audit entry for {action}"
    assert entry.actor_name == "root"
    return entry


def dead_letter_of(name: str) -> DeadLetter:
    """Return an open dead letter of a job that has just failed."""
    jobs.fail.enqueue(message=name)
    work("default")
    Books().fold()
    return DeadLetter.objects.filter(status="open").latest("pk")


# --- the overview ---------------------------------------------------------------------------------


def test_a_queue_is_paused_emptied_and_resumed(page: Any) -> None:
    jobs.noop.using(queue="dynamic").enqueue_bulk([{}] * 3)
    open_page(page, "queues")
    card = page.locator("li.wj-card", has_text="dynamic")
    card.get_by_role("button", name="Pause").click()
    confirm(page, "Queue dynamic was paused")
    assert queues.counts("dynamic").paused
    card.get_by_role("button", name="Empty").click()
    confirm(page, "Queue dynamic: 3 jobs canceled")
    assert queues.counts("dynamic").waiting == 0
    card.get_by_role("button", name="Resume").click()
    confirm(page, "Queue dynamic was resumed")
    assert not queues.counts("dynamic").paused
    assert audited("emptied", "queue").target_id == "dynamic"


# --- the list of jobs -----------------------------------------------------------------------------


def act_on_list(page: Any, action: str) -> None:
    page.locator("select[name=action]").select_option(action)
    page.locator("button[name=index]").first.click()


def test_selected_jobs_are_canceled(page: Any) -> None:
    handles = jobs.echo.using(queue="tasks").enqueue_bulk([{"value": n} for n in range(3)])
    open_page(page, "jobrecord_changelist", query="?queue=tasks")
    for handle in handles[:2]:
        page.locator(f"input.action-select[value='{handle.id}']").check()
    act_on_list(page, "cancel_jobs")
    assert "2" in page.locator(".wj-effects").inner_text()
    confirm(page, "2 jobs canceled")
    Books().fold()
    assert [handle.refresh().state for handle in handles] == ["canceled", "canceled", "waiting"]


def test_all_jobs_that_match_are_retried(page: Any) -> None:
    for n in range(3):
        jobs.fail.using(organization="many").enqueue(message=f"of many {n}")
    work("default")
    Books().fold()
    open_page(page, "jobrecord_changelist", query="?organization=many&state__exact=failed")
    page.locator("#action-toggle").check()
    act_on_list(page, "retry_jobs")
    page.get_by_text("3 failed jobs are retried").wait_for()
    confirm(page, "3 jobs")
    assert (
        list(JobRecord.objects.filter(organization_id="many").values_list("state", flat=True))
        == ["waiting"] * 3
    )


def test_a_view_is_saved_opened_and_deleted(page: Any) -> None:
    open_page(page, "jobrecord_changelist", query="?state__exact=canceled")
    page.get_by_text("Save this view").click()
    page.get_by_label("View name").fill("what was stopped")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("The view “what was stopped” was saved").wait_for()
    open_page(page, "jobrecord_changelist")
    page.get_by_role("link", name="what was stopped").click()
    page.wait_for_url("**state__exact=canceled**")
    page.locator("summary[aria-label='Change view what was stopped']").click()
    page.get_by_role("button", name="Delete").locator("visible=true").click()
    page.get_by_text("The view “what was stopped” was deleted").wait_for()
    assert not SavedView.objects.filter(name="what was stopped").exists()


# --- one job --------------------------------------------------------------------------------------


def test_a_failed_job_is_retried(page: Any) -> None:
    letter = dead_letter_of("to be retried")
    open_page(page, "jobrecord_change", letter.job_id)
    page.get_by_role("link", name="Retry", exact=True).click()
    confirm(page, "The job was retried")
    assert JobRecord.objects.get(pk=letter.job_id).state == "waiting"


def test_a_delayed_job_runs_now_and_is_canceled(page: Any) -> None:
    handle = jobs.noop.using(queue="low", delay=3600).enqueue()
    open_page(page, "jobrecord_change", handle.id)
    page.get_by_role("link", name="Run now").click()
    confirm(page, "The job was enqueued to run now")
    assert handle.refresh().state == "waiting"
    page.get_by_role("link", name="Cancel", exact=True).click()
    confirm(page, "The job was canceled")
    assert handle.refresh().state == "canceled"
    assert audited("canceled", "job").target_id == str(handle.id)


def test_priority_and_queue_of_a_job_are_changed(page: Any) -> None:
    handle = jobs.noop.using(queue="low").enqueue()
    open_page(page, "jobrecord_change", handle.id)
    page.get_by_role("link", name="Change priority").click()
    page.get_by_label("Priority").select_option(str(int(Priority.CRITICAL)))
    confirm(page, "The priority was changed")
    page.get_by_role("link", name="Move").click()
    page.get_by_label("Queue").select_option("cleanup")
    confirm(page, "The job was moved")
    row = JobRecord.objects.get(pk=handle.id)
    assert (row.priority, row.queue) == (Priority.CRITICAL, "cleanup")


def test_a_copy_with_edited_data_is_enqueued(page: Any) -> None:
    handle = jobs.echo.using(queue="low").enqueue(value="first")
    open_page(page, "jobrecord_change", handle.id)
    page.get_by_role("link", name="Edit a copy and enqueue").click()
    page.get_by_label("Data").fill('{"value": "second"}')
    confirm(page, "was enqueued")
    assert JobRecord.objects.latest("created_at").data == {"value": "second"}


# --- dead letters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("button", "expected", "status"),
    [
        ("Replay", "The job was replayed", "replayed"),
        ("Assign", "The dead letter was assigned", "open"),
        ("Discard", "The dead letter was discarded", "discarded"),
    ],
)
def test_actions_on_a_dead_letter(page: Any, button: str, expected: str, status: str) -> None:
    letter = dead_letter_of(f"to {button}")
    open_page(page, "deadletter_change", letter.pk)
    page.get_by_role("link", name=button, exact=True).click()
    if button == "Assign":
        page.get_by_label("Assignee").fill("root")
        page.get_by_label("Note").fill("is looked at")
    confirm(page, expected)
    letter.refresh_from_db()
    assert letter.status == status
    if button == "Assign":
        assert (letter.assigned_to.get_username(), letter.note) == ("root", "is looked at")


def test_actions_on_a_fault(page: Any) -> None:
    dead_letter_of("one of them")
    dead_letter_of("another of them")
    found = DeadLetter.objects.filter(name="test-fail", status="open")
    letter = found.latest("pk")
    count = found.filter(fingerprint=letter.fingerprint).count()
    open_page(page, "fault", letter.fingerprint)
    page.get_by_role("link", name="Assign", exact=True).click()
    page.get_by_label("Assignee").fill("root")
    confirm(page, "assigned")
    page.get_by_role("link", name="Replay all").click()
    page.get_by_label("Maximum rows per second").fill("50")
    confirm(page, f"{count} job|The action runs as a job")
    page.wait_for_url("**/bulkoperation/**")
    assert BulkOperation.objects.latest("pk").options == {"rate": 50.0}
    page.get_by_role("button", name="Stop").click()
    confirm(page, "The operation stops before its next rows")
    assert BulkOperation.objects.latest("pk").stopped_by == "root"
    open_page(page, "fault", letter.fingerprint)
    page.get_by_role("link", name="Discard all").click()
    confirm(page, "discarded")
    assert not found.filter(fingerprint=letter.fingerprint).exists()


# --- schedules ------------------------------------------------------------------------------------


def test_life_cycle_of_a_schedule(page: Any) -> None:
    open_page(page, "schedule_add")
    page.get_by_label("Name").fill("by-hand")
    page.locator("#id_job_name").select_option("test-add")
    page.get_by_label("Data").fill('{"a": 1}')
    page.get_by_label("Cron line").fill("15 9 * * 1")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("was added successfully").wait_for()
    row = Schedule.objects.get(name="by-hand")
    open_page(page, "schedule_change", row.pk)
    page.get_by_label("Cron line").fill("30 9 * * 1")
    page.get_by_role("textbox", name="Reason").fill(WHY)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("was changed successfully").wait_for()
    for button, expected in (
        ("Run now", "1 job enqueued"),
        ("Disable", "1 schedule disabled"),
        ("Enable", "1 schedule enabled"),
    ):
        open_page(page, "schedule_change", row.pk)
        page.get_by_role("button", name=button, exact=True).click()
        confirm(page, expected)
    row.refresh_from_db()
    assert (row.cron, row.enabled) == ("30 9 * * 1", True)
    assert JobRecord.objects.get(schedule=row).name == "test-add"
    open_page(page, "schedule_change", row.pk)
    page.locator("a.deletelink").click()  # from Django 6.1 on its role is that of a button
    confirm(page, "1 schedule deleted")
    assert not Schedule.objects.filter(name="by-hand").exists()


# --- batches and flows ----------------------------------------------------------------------------


def test_a_batch_is_retried_and_canceled(page: Any) -> None:
    with Batch(name="to be stopped") as batch:
        handles = [batch.enqueue(jobs.fail)]
        work("default")
        Books().fold()
        handles += batch.enqueue_bulk(jobs.echo, [{"value": 1}] * 2)
    open_page(page, "batch_change", batch.id)
    page.get_by_role("button", name="Retry failed jobs").click()
    confirm(page, "1 batch retried")
    open_page(page, "batch_change", batch.id)
    page.get_by_role("button", name="Cancel").click()
    confirm(page, "1 batch canceled|canceled")
    Books().fold()
    assert [handle.refresh().state for handle in handles] == ["canceled"] * 3


def test_a_flow_is_retried_and_canceled(page: Any) -> None:
    flow = Flow(jobs.fail.with_data(), children=[jobs.noop.with_data()]).enqueue()
    work("default")
    Books().fold()
    flow_id = JobRecord.objects.get(pk=flow.handles[0].id).flow_id
    open_page(page, "flow", flow_id)
    page.get_by_role("button", name="Retry failed jobs").click()
    confirm(page, "job.* retried")
    page.get_by_role("button", name="Cancel").click()
    confirm(page, "2 jobs canceled")
    Books().fold()
    assert set(JobRecord.objects.filter(flow_id=flow_id).values_list("state", flat=True)) == {
        "canceled"
    }


# --- limits, workers ------------------------------------------------------------------------------


def test_a_limit_is_changed_and_reset(page: Any) -> None:
    open_page(page, "limits")
    row = page.locator("tr", has_text="test-double")
    row.get_by_role("button", name="Change").click()
    page.get_by_label("Maximum").fill("7")
    confirm(page, "Limit test-double was changed to 7")
    row.get_by_role("button", name="Reset to code").click()
    confirm(page, "Limit test-double was reset to the value in code")


def test_a_breaker_is_tripped_and_reset(page: Any) -> None:
    open_page(page, "limits")
    row = page.locator("tr", has_text="partner")
    row.get_by_role("button", name="Trip").click()
    confirm(page, "Breaker partner is open until it is reset")
    row.get_by_role("button", name="Reset").click()
    confirm(page, "Breaker partner was closed")


def test_a_worker_is_quiet_resumes_and_stops(page: Any) -> None:
    Hand("notifications", name="docile")
    open_page(page, "workers")
    row = page.locator("tr", has_text="docile")
    row.get_by_role("button", name="Quiet").click()
    confirm(page, "docile takes no more jobs")
    assert next(
        worker for worker in workers.workforce().workers if worker.name == "docile"
    ).is_quiet
    row.get_by_role("button", name="Resume").click()
    confirm(page, "docile takes jobs again")
    row.get_by_role("button", name="Stop", exact=True).click()
    confirm(page, "ends after")
    assert audited("stopped", "worker").target_id.endswith("docile")


# --- statistics, audit ----------------------------------------------------------------------------


def test_statistics_of_another_window(page: Any) -> None:
    open_page(page, "statistics")
    page.get_by_role("link", name="7 days").click()
    page.wait_for_url("**window=7d**")
    assert page.get_by_role("link", name="7 days").get_attribute("aria-current")


def test_the_audit_log_is_filtered_and_exported(page: Any) -> None:
    AuditEntry.objects.create(
        action="paused", target_type="queue", target_id="email", at=timezone.now(), reason="once"
    )
    open_page(page, "auditentry_changelist", query="?action=paused")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 1 + AuditEntry.objects.filter(action="paused").count()


# --- live -----------------------------------------------------------------------------------------


def test_the_live_switch(page: Any) -> None:
    open_page(page, "workers")
    choice = page.get_by_label("Refresh")
    assert [option.get_attribute("value") for option in choice.locator("option").all()] == [
        "0",
        "1",
        "2",
        "5",
        "10",
        "30",
    ]
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    choice.select_option("1")
    with page.expect_request("**/workers/"):
        page.wait_for_function("document.activeElement === document.body")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})"
    )
    page.get_by_text("paused", exact=True).wait_for()
    count = len(asked)
    page.wait_for_timeout(1500)  # longer than a refresh takes to come
    assert len(asked) == count
    page.evaluate("delete document.hidden")
    with page.expect_request("**/workers/"):
        pass
    choice.select_option("0")
