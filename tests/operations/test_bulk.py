"""Bulk operations: a job processes all matching rows in chunks; stopping, crashes, permissions."""

from __future__ import annotations

import html
import os
import re
import signal
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from wellos_jobs import operations
from wellos_jobs.admin.ui import bulk_actions, paginator, search_window
from wellos_jobs.broker import queues
from wellos_jobs.enqueueing import control
from wellos_jobs.enqueueing.handle import JobHandle
from wellos_jobs.models import AuditEntry, BulkOperation, DeadLetter, JobAttempt, JobRecord
from wellos_jobs.operations import bulk
from wellos_jobs.states import DeadLetterStatus, JobState
from wellos_jobs.worker import execution

from .. import jobs
from ..support.browser import axe, login, narrow
from ..support.engine import Books, Hand, work
from ..support.processes import Fleet
from ..support.users import text

pytestmark = pytest.mark.django_db(transaction=True)
JOBS = "/admin/wellos_jobs/jobrecord/"
LETTERS = "/admin/wellos_jobs/deadletter/"
OPERATIONS = "/admin/wellos_jobs/bulkoperation/"


@pytest.fixture(autouse=True)
def few_are_many(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave more than three rows to a job, which processes two at a time."""
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    monkeypatch.setattr("wellos_jobs.admin.ui.bulk_actions.MAX_INLINE", 3)
    monkeypatch.setattr(bulk, "CHUNK", 2)


def letters(count: int, **options: Any) -> None:
    """Make jobs that failed for good."""
    for _ in range(count):
        jobs.fail.using(max_attempts=1, **options).enqueue()
    work()
    Books().fold()


def ask(client: Client, url: str, action: str, **more: str) -> Any:
    sent = {"action": action, "select_across": "1", "_selected_action": "1"}
    return client.post(url, {**sent, "confirm": "yes", "reason": "the partner is back", **more})


def test_a_job_replays_all_matching_rows(root: Client) -> None:
    letters(5)
    letters(1, queue="slow")
    response = ask(root, f"{LETTERS}?queue=default", "replay_dead_letters")
    operation = BulkOperation.objects.get()
    assert response["Location"] == f"{OPERATIONS}{operation.pk}/change/"
    assert (operation.total, operation.done, operation.percent) == (5, 0, 0)
    assert "It waits for" in text(root.get(response["Location"])) or "No worker" in text(
        root.get(response["Location"])
    )
    work("default")
    operation.refresh_from_db()
    assert (operation.done, operation.refused, operation.percent) == (5, 0, 100)
    assert DeadLetter.objects.filter(status=DeadLetterStatus.REPLAYED).count() == 5
    assert DeadLetter.objects.get(job__queue="slow").status == DeadLetterStatus.OPEN
    assert "Rows 5 Done 5 Skipped 0" in text(root.get(response["Location"]))
    entry = AuditEntry.objects.get(target_type="bulk")
    assert (entry.action, entry.actor_name, entry.reason) == (
        "replay_dead_letters",
        "root",
        "the partner is back",
    )
    assert entry.detail == {
        "query": "queue=default",
        "rows": "deadletter",
        "total": 5,
        "done": 5,
        "left_alone": 0,
    }
    assert AuditEntry.objects.filter(action="replayed", actor_name="root").count() == 5


VERBS = {
    "promote_jobs": ({}, "4 delayed jobs are run now", "promoted"),
    "change_priority": (
        {"priority": "1"},
        "5 jobs are queued last among the jobs of their new priority",
        "changed priority",
    ),
    "move_jobs": ({"queue": "email"}, "5 jobs are moved", "moved"),
}


@pytest.mark.parametrize("action", VERBS)
def test_a_job_moves_or_changes_all_matching_rows(root: Client, action: str) -> None:
    choice, effect, word = VERBS[action]
    jobs.noop.using(queue="slow", delay=600).enqueue_bulk([{}] * 4)
    jobs.noop.using(queue="slow").enqueue()
    done = jobs.noop.using(queue="slow").enqueue()
    done.cancel()
    Books().fold()
    theirs = jobs.noop.using(queue="low", delay=600).enqueue()
    sent = {"action": action, "select_across": "1", "_selected_action": "1"}
    asked = text(root.post(f"{JOBS}?queue=slow", sent))
    assert effect in asked
    assert "1 canceled job is left unchanged" in asked
    response = ask(root, f"{JOBS}?queue=slow", action, **choice)
    work("default")
    operation = BulkOperation.objects.get()
    acted = 4 if action == "promote_jobs" else 5
    assert (operation.total, operation.done, operation.refused) == (6, acted, 6 - acted)
    shown = text(root.get(response["Location"]))
    assert {"promote_jobs": "", "change_priority": "Priority critical", "move_jobs": "Queue email"}[
        action
    ] in shown
    entry = AuditEntry.objects.get(target_type="bulk")
    assert (entry.action, entry.detail["done"]) == (action, acted)
    assert (
        AuditEntry.objects.filter(
            action=word, reason="the partner is back", actor_name="root"
        ).count()
        == acted
    )
    touched = AuditEntry.objects.filter(action=word).values_list("target_id", flat=True)
    mine = JobRecord.objects.filter(pk__in=list(touched))
    if action == "change_priority":
        assert entry.detail["priority"] == 1
        assert set(mine.values_list("priority", flat=True)) == {1}
    if action == "move_jobs":
        assert entry.detail["queue"] == "email"
        assert set(mine.values_list("queue", flat=True)) == {"email"}
        work("email")
    untouched = theirs.record()
    assert (untouched.queue, untouched.priority, theirs.state) == ("low", 5, "delayed")


@pytest.mark.parametrize(
    ("action", "wrong"),
    [
        ("change_priority", {"priority": "2"}),
        ("change_priority", {}),
        ("move_jobs", {"queue": "emial"}),
        ("move_jobs", {}),
    ],
)
def test_an_invalid_choice_is_refused(root: Client, action: str, wrong: dict[str, str]) -> None:
    jobs.noop.using(queue="slow").enqueue_bulk([{}] * 4)
    response = ask(root, f"{JOBS}?queue=slow", action, **wrong)
    assert "Select a valid choice" in text(response) or "This field is required" in text(response)
    assert not BulkOperation.objects.exists()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("action", "permission"),
    [
        ("promote_jobs", "promote_job"),
        ("change_priority", "change_job_priority"),
        ("move_jobs", "move_job"),
    ],
)
def test_permission_and_organization_are_checked(
    settings: Any, action: str, permission: str
) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.operations.test_bulk.of_acme",
    }
    for organization in ("acme", "fjord"):
        jobs.noop.using(queue="slow", organization=organization, delay=600).enqueue_bulk([{}] * 2)
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_jobrecord"))
    client = Client()
    client.force_login(user)
    choice = {"priority": "1", "queue": "email"}
    assert f'value="{action}"' not in client.get(JOBS).content.decode()
    assert ask(client, JOBS, action, **choice).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename=permission))
    assert f'value="{action}"' in client.get(JOBS).content.decode()
    ask(client, JOBS, action, **choice)
    touched = AuditEntry.objects.filter(target_type="job").values_list("target_id", flat=True)
    organizations = JobRecord.objects.filter(pk__in=list(touched)).values_list(
        "organization_id", flat=True
    )
    assert sorted(organizations) == ["acme", "acme"]


def done_by_a_worker_that_is_killed(operation: BulkOperation, processes: Fleet) -> None:
    """Let a worker process all 300 rows, and kill it twice meanwhile."""
    worker = processes.worker("default")
    for least in (50, 150):
        processes.wait_until(lambda least=least: BulkOperation.objects.get().done >= least)
        for child in worker.children()[:1]:
            os.kill(child, signal.SIGKILL)
    processes.wait_until(lambda: BulkOperation.objects.get().finished_at is not None, 40)
    operation.refresh_from_db()
    assert (operation.done, operation.refused) == (300, 0)


def test_each_job_moves_once_though_its_worker_is_killed(
    root: Client, processes: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 300 jobs is in the other queue once, though the worker is killed repeatedly."""
    monkeypatch.setattr("wellos_jobs.admin.ui.bulk_actions.MAX_INLINE", 100)
    monkeypatch.setattr(bulk, "CHUNK", 20)
    jobs.noop.using(queue="slow").enqueue_bulk([{}] * 300)
    operation = begun(root, f"{JOBS}?queue=slow", "move_jobs", rate="100", queue="email")
    done_by_a_worker_that_is_killed(operation, processes)
    assert JobRecord.objects.filter(queue="email").count() == queues.counts("email").waiting == 300
    assert queues.counts("slow").waiting == 0
    assert AuditEntry.objects.filter(action="moved").count() == 300


def test_the_confirmation_page_announces_the_job(root: Client) -> None:
    letters(4)
    sent = {"action": "replay_dead_letters", "select_across": "1", "_selected_action": "1"}
    shown = text(root.post(LETTERS, sent))
    assert "This selection is large, so the action runs as a job." in shown
    assert "4 jobs are requeued" in shown
    letters_shown = text(root.post(f"{LETTERS}?queue=slow", sent))
    assert "so the action runs as a job" not in letters_shown


def test_few_rows_are_processed_in_the_request(root: Client) -> None:
    letters(3)
    ask(root, LETTERS, "discard_dead_letters")
    assert not BulkOperation.objects.exists()
    assert DeadLetter.objects.filter(status=DeadLetterStatus.DISCARDED).count() == 3


def test_refusals_are_counted_and_shown(root: Client) -> None:
    letters(4)
    operation = begun(root, JOBS, "retry_jobs")
    JobRecord.objects.filter(pk=JobRecord.objects.filter(name="test-fail").first().pk).update(
        state=JobState.COMPLETED
    )
    work("default", max_jobs=1)
    operation.refresh_from_db()
    assert operation.done == 3
    assert (operation.done + operation.refused) >= 4
    assert any("only failed and delayed jobs can" in refusal for refusal in operation.refusals)


def begun(client: Client, url: str, action: str, **more: str) -> BulkOperation:
    assert ask(client, url, action, **more).status_code == 302
    return BulkOperation.objects.get()


def test_rows_added_later_are_not_processed(root: Client) -> None:
    letters(4)
    operation = begun(root, LETTERS, "discard_dead_letters")
    letter = DeadLetter.objects.order_by("-pk").first()
    assert letter is not None
    late = DeadLetter.objects.create(
        job=letter.job, reason="exhausted", fingerprint="x", created_at=letter.created_at
    )
    work("default")
    operation.refresh_from_db()
    assert operation.done == 4
    late.refresh_from_db()
    assert late.status == DeadLetterStatus.OPEN


def test_it_can_be_stopped(root: Client) -> None:
    letters(6)
    operation = begun(root, LETTERS, "discard_dead_letters")
    page = f"{OPERATIONS}{operation.pk}/stop/"
    assert "1 bulk operation stops before its next rows" in text(root.post(page))
    assert "This field is required" in text(root.post(page, {"confirm": "yes"}))
    assert root.post(page, {"confirm": "yes", "reason": "the wrong month"}).status_code == 302
    work("default")
    operation.refresh_from_db()
    assert (operation.done, operation.stopped_by) == (0, "root")
    assert operation.finished_at is not None
    root.post(page, {"confirm": "yes", "reason": "again"})
    assert "The bulk operation has ended already" in text(root.get(OPERATIONS))
    assert list(
        AuditEntry.objects.filter(target_type="bulk")
        .order_by("pk")
        .values_list("action", flat=True)
    ) == [
        "stopped",
        "discard_dead_letters",
    ]
    assert AuditEntry.objects.get(action="stopped").reason == "the wrong month"


def test_a_repeated_run_continues_after_the_last_row(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters(6)
    operation = begun(root, LETTERS, "discard_dead_letters")
    hand = Hand("default")
    claim = hand.take()
    chunks = bulk._process_chunk
    calls: list[int] = []

    def dies_in_the_third(*args: Any) -> int:
        calls.append(1)
        if len(calls) == 3:
            raise ConnectionError("killed")
        return chunks(*args)

    monkeypatch.setattr(bulk, "_process_chunk", dies_in_the_third)
    outcome = execution.run(claim, hand.timer)
    assert outcome.kind == "retried"
    hand.settle(claim, outcome)
    operation.refresh_from_db()
    assert operation.done == 4
    Books().fold()
    operations.promote(JobRecord.objects.get(pk=operation.job_id))
    work("default")
    operation.refresh_from_db()
    assert (operation.done, operation.refused) == (6, 0)
    assert AuditEntry.objects.filter(action="discarded").count() == 6


def test_rows_skipped_while_redis_was_down_are_tried_again(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, and none is counted as left alone, whatever Redis does in the middle of a
    chunk."""
    handles = sorted(
        (jobs.noop.using(delay=3600).enqueue() for _ in range(5)), key=lambda handle: handle.id
    )
    ask(root, f"{JOBS}?state=delayed", "promote_jobs")
    promote, tried = control.promote, []

    def away_at_the_second(record: JobRecord) -> bool:
        tried.append(record.pk)
        if len(tried) == 2:
            raise redis.ConnectionError("away")
        return promote(record)

    with monkeypatch.context() as patch:
        patch.setattr(control, "promote", away_at_the_second)
        work()
    operation = BulkOperation.objects.get()
    assert (operation.done, operation.refused, operation.options) == (
        1,
        0,
        {"untried": [str(handles[1].id)]},
    )
    assert JobHandle(operation.job_id, "default").state is JobState.DELAYED
    operations.promote(JobHandle(operation.job_id, "default"))
    work()
    operation.refresh_from_db()
    assert (operation.done, operation.refused, operation.refusals, operation.options) == (
        5,
        0,
        [],
        {},
    )
    assert [handle.state for handle in handles] == [JobState.COMPLETED] * 5
    promoted = AuditEntry.objects.filter(
        action="promoted", target_id__in=[str(handle.id) for handle in handles]
    )
    assert promoted.count() == 5


def test_without_the_permission_at_run_time_nothing_changes(root: Client) -> None:
    letters(4)
    operation = begun(root, LETTERS, "discard_dead_letters")
    User.objects.update(is_superuser=False)
    work("default")
    operation.refresh_from_db()
    assert operation.done == 0
    assert "no longer has permission for this" in Books().row(bulk.handle_of(operation)).error  # type: ignore[arg-type]


def of_acme(user: User) -> list[str]:
    return ["acme"]


def test_only_rows_of_the_users_organizations_are_processed(settings: Any) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.operations.test_bulk.of_acme",
    }
    letters(4, organization="acme")
    letters(4, organization="fjord")
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="wellos_jobs"))
    client = Client()
    client.force_login(user)
    operation = begun(client, LETTERS, "discard_dead_letters")
    assert operation.total == 4
    work("default")
    discarded = DeadLetter.objects.filter(status=DeadLetterStatus.DISCARDED)
    assert set(discarded.values_list("job__organization_id", flat=True)) == {"acme"}
    assert "Done 4" in text(client.get(f"{OPERATIONS}{operation.pk}/change/"))
    other = User.objects.create_user("bob", is_staff=True)
    other.user_permissions.set(Permission.objects.filter(content_type__app_label="wellos_jobs"))
    client.force_login(other)
    assert client.get(f"{OPERATIONS}{operation.pk}/change/").status_code in {302, 404}
    assert client.post(f"{OPERATIONS}{operation.pk}/stop/").status_code == 404


def test_it_cannot_be_started_without_the_permission() -> None:
    letters(4)
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_deadletter"))
    client = Client()
    client.force_login(user)
    ask(client, LETTERS, "discard_dead_letters")
    assert not BulkOperation.objects.exists()


def test_a_rate(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(bulk.time, "sleep", slept.append)
    letters(4)
    operation = begun(root, LETTERS, "discard_dead_letters", rate="1")
    work("default")
    operation.refresh_from_db()
    assert operation.done == 4
    assert [round(seconds) for seconds in slept[:4]] == [1, 1, 1, 1]


def test_each_row_is_processed_once_though_workers_are_killed(
    root: Client, processes: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 300 rows is processed once, though the worker is killed repeatedly."""
    monkeypatch.setattr("wellos_jobs.admin.ui.bulk_actions.MAX_INLINE", 100)
    now = timezone.now()
    records = JobRecord.objects.bulk_create(
        JobRecord(name="test-noop", queue="slow", state="failed", created_at=now, finished_at=now)
        for _ in range(300)
    )
    DeadLetter.objects.bulk_create(
        DeadLetter(job=record, reason="exhausted", fingerprint="x", created_at=record.created_at)
        for record in records
    )
    operation = begun(root, LETTERS, "discard_dead_letters", rate="100")
    done_by_a_worker_that_is_killed(operation, processes)
    assert AuditEntry.objects.filter(action="discarded").count() == 300
    assert JobAttempt.objects.filter(job=operation.job_id).count() <= 2


@pytest.mark.browser
def test_in_the_browser(page: Any, processes: Fleet) -> None:
    letters(8)
    login(page, User.objects.create_superuser("root"))
    page.goto(f"{LETTERS}?status__exact=open")
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("replay_dead_letters")
    page.evaluate("document.querySelector('input.select-across').value = '1'")
    page.locator("button[name=index]").first.click()
    axe(page)
    page.get_by_label("Reason").fill("the partner is back")
    page.get_by_role("button", name="Replay").click()
    page.get_by_text("The action runs as a job").wait_for()
    axe(page)
    narrow(page)
    page.get_by_label("Refresh").select_option("1")
    processes.worker("default")
    page.locator("dd", has_text=re.compile("^8$")).nth(1).wait_for()
    assert BulkOperation.objects.get().done == 8


# --- what is counted, and what a search leaves ----------------------------------------------------


def test_many_rows_are_not_counted_in_the_request(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paginator, "MAX_COUNT", 4)
    monkeypatch.setattr(bulk_actions, "MAX_COUNT", 4)
    letters(6)
    for n in range(7):
        JobRecord.objects.create(
            name=f"n{n}", queue="email", state="completed", created_at=timezone.now()
        )
    shown = text(
        root.post(JOBS, {"action": "retry_jobs", "select_across": "1", "_selected_action": "1"})
    )
    assert "4+ failed jobs are retried" in shown
    assert "0 delayed jobs" not in shown
    assert "5+ completed jobs are left unchanged" in shown
    assert "4+ selected" in shown
    assert "and more" in shown
    operation = begun(root, JOBS, "retry_jobs")
    assert "Rows not counted yet" in text(root.get(f"{OPERATIONS}{operation.pk}/change/"))
    work("default", max_jobs=1)
    operation.refresh_from_db()
    assert (operation.done, operation.refused, operation.percent) == (6, operation.total - 6, 100)
    assert operation.total >= 13


def test_affected_rows_are_counted_among_many_others(root: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(bulk_actions, "MAX_COUNT", 4)
    for n in range(20):
        JobRecord.objects.create(
            name=f"n{n}", queue="email", state="completed", created_at=timezone.now()
        )
    JobRecord.objects.create(name="last", queue="email", state="failed", created_at=timezone.now())
    shown = text(
        root.post(JOBS, {"action": "retry_jobs", "select_across": "1", "_selected_action": "1"})
    )
    assert "1 failed job is retried" in shown


@pytest.mark.parametrize("query", ["q=test-fail", "q=test-fail&state__exact=failed"])
def test_the_search_window_of_the_confirmation_is_kept(
    root: Client, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    letters(9)
    monkeypatch.setattr(search_window, "MAX_ROWS", 5)
    monkeypatch.setattr(search_window, "SMALL_RESULT", 2)
    meant = set(
        JobRecord.objects.filter(name="test-fail")
        .order_by("-created_at")
        .values_list("pk", flat=True)[:5]
    )
    sent = {"action": "retry_jobs", "select_across": "1", "_selected_action": "1"}
    page = root.post(f"{JOBS}?{query}", sent)
    assert "5 failed jobs are retried" in text(page)
    found = re.search(
        r'<form method="post" class="wj-confirm" action="([^"]*)"', page.content.decode()
    )
    assert found
    letters(3)
    response = root.post(
        html.unescape(found[1]), {**sent, "confirm": "yes", "reason": "the partner is back"}
    )
    operation = BulkOperation.objects.get()
    assert response["Location"] == f"{OPERATIONS}{operation.pk}/change/"
    letters(4)
    work("default", max_jobs=1)
    operation.refresh_from_db()
    retried = set(
        JobRecord.objects.filter(name="test-fail", replays=1).values_list("pk", flat=True)
    )
    assert meant <= retried
    assert len(retried) == operation.done == 8, (
        "the three that came before the reason was sent match, too"
    )


def test_an_operation_whose_job_was_pruned(root: Client) -> None:
    letters(4)
    operation = begun(root, LETTERS, "discard_dead_letters")
    JobRecord.objects.filter(pk=operation.job_id).delete()
    assert "Discard dead letters" in text(root.get(OPERATIONS))
    assert "job deleted" in text(root.get(f"{OPERATIONS}{operation.pk}/change/"))
