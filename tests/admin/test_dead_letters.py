"""Dead letters: groups by fault, detail page, edit and replay, canary, assignment."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import operations, payload
from wellos_jobs.errors import InvalidOperation
from wellos_jobs.models import AuditEntry, BulkOperation, DeadLetter, JobRecord
from wellos_jobs.monitoring import faults
from wellos_jobs.operations import bulk

from .. import jobs
from ..conftest import UseRedis
from ..support import guarded_jobs
from ..support.browser import axe, login, narrow
from ..support.engine import Books, work
from ..support.servers import free_port
from ..support.users import client_of, staff, text

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]

LETTERS = "/admin/wellos_jobs/deadletter/"
FAULTS = f"{LETTERS}faults/"
VERBS = {
    "replay": "replay_deadletter",
    "edit": "edit_deadletter",
    "assign": "assign_deadletter",
    "discard": "discard_deadletter",
}
FAULT_VERBS = {
    name: VERBS.get(name, "replay_deadletter") for name in ("canary", "replay", "assign", "discard")
}
REASON = {"action": "confirm", "reason": "the partner is back"}


def messages(response: Any) -> str:
    return " ".join(str(message) for message in response.context["messages"])


def fail(count: int = 1, message: str = "the partner is away", **options: Any) -> list[DeadLetter]:
    """Let jobs fail with one message; return their dead letters."""
    handles = jobs.fail.using(**options).enqueue_bulk([{"message": message}] * count)
    work()
    Books().fold()
    return list(
        DeadLetter.objects.filter(job_id__in=[handle.id for handle in handles]).order_by("pk")
    )


def dead_letter_url(letter: DeadLetter, below: str = "change/") -> str:
    return f"{LETTERS}{letter.pk}/{below}"


def fault_url(letter: DeadLetter, below: str = "") -> str:
    return f"{FAULTS}{letter.fingerprint}/{below}"


def buttons(response: Any) -> set[str]:
    return set(
        re.findall(r'<a class="wj-button[^"]*" href="[^"]*/act/(\w+)/', response.content.decode())
    )


# --- groups ---------------------------------------------------------------------------------------


def test_dead_letters_are_grouped_by_fault(root: Client) -> None:
    away = [*fail(2, organization="acme"), *fail(1, organization="globex")]
    fail(1, "no such file", queue="email")
    now = timezone.localtime().replace(hour=12)
    for letter, days in zip(away, (0, 1, 13), strict=True):
        DeadLetter.objects.filter(pk=letter.pk).update(created_at=now - timedelta(days=days))
    group, other = faults.faults_of(faults.FaultFilter().apply(DeadLetter.objects.all()))
    assert (group.number, group.organizations, group.name, group.error_class) == (
        3,
        2,
        "test-fail",
        "ValueError",
    )
    assert (group.first, group.last) == (now - timedelta(days=13), now)
    assert list(group.days) == [1, *[0] * 11, 1, 1]
    assert (other.number, other.organizations, other.queue, other.message) == (
        1,
        0,
        "email",
        "no such file",
    )
    shown = text(root.get(FAULTS))
    assert "4 dead letters" in shown
    assert re.search(
        r"test-fail default ValueError : the partner is away 3 .*?"
        r"3 dead letters in the last 14 days",
        shown,
    )
    assert fault_url(away[0]) in root.get(FAULTS).content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"a", "b"}),
        ("?status=any", {"a", "b", "c"}),
        ("?status=discarded", {"c"}),
        ("?queue=email", {"b"}),
        ("?name=test-fail", {"a", "b"}),
        ("?name=test-noop", set()),
        ("?organization=acme", {"a"}),
        ("?window=24h", {"b"}),
        ("?window=nonsense&order=nonsense&page=x", {"a", "b"}),
    ],
)
def test_filters(root: Client, query: str, found: set[str]) -> None:
    a, b, c = (
        fail(1, "fault a", organization="acme")
        + fail(1, "fault b", queue="email")
        + fail(1, "fault c")
    )
    DeadLetter.objects.filter(pk=a.pk).update(created_at=timezone.now() - timedelta(days=3))
    DeadLetter.objects.update(fingerprint="0")
    for letter in (a, b, c):
        DeadLetter.objects.filter(pk=letter.pk).update(fingerprint=letter.message.replace(" ", "-"))
    operations.discard(c)
    page = root.get(f"{FAULTS}{query}").content.decode()
    assert set(re.findall(r"faults/fault-(\w)/", page)) == found


@pytest.mark.parametrize(("order", "names"), [("count", "bac"), ("last", "cba"), ("first", "abc")])
def test_order_and_pages(
    root: Client, order: str, names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [*fail(2, "fault a"), *fail(3, "fault b"), *fail(1, "fault c")]
    for age, letter in enumerate(reversed(letters)):
        at = timezone.now() - timedelta(hours=age)
        DeadLetter.objects.filter(pk=letter.pk).update(
            created_at=at, fingerprint=letter.message.replace(" ", "-")
        )
    monkeypatch.setattr("wellos_jobs.admin.dead_letters.by_fault.PER_PAGE", 2)
    first = root.get(f"{FAULTS}?order={order}").content.decode()
    assert "".join(re.findall(r"faults/fault-(\w)/", first)) == names[:2]
    address = re.search(r'href="(\?[^"]+)" rel="next"', first)
    assert address is not None
    second = root.get(FAULTS + html.unescape(address[1])).content.decode()
    assert "".join(re.findall(r"faults/fault-(\w)/", second)) == names[2:]
    assert 'rel="prev"' in second
    assert 'rel="next"' not in second


def test_queries_of_faults_are_constant(root: Client) -> None:
    letter = fail(2, organization="acme")[0]
    root.post(fault_url(letter, "act/canary/"), REASON)

    def cost(url: str) -> int:
        with CaptureQueriesContext(connections["default"]) as captured:
            assert root.get(url).status_code == 200
        return len(captured)

    urls = (FAULTS, fault_url(letter), dead_letter_url(letter))
    for url in urls:
        cost(url)
    before = [cost(url) for url in urls]
    for number in range(20):
        fail(2, f"fault {'x' * number}", organization=f"o{number}")
    fail(30, organization="acme")
    assert [cost(url) for url in urls] == before
    assert before[0] <= 7
    assert max(before) <= 12


def test_no_dead_letters(root: Client) -> None:
    assert "No dead letters match the filters." in text(root.get(FAULTS))
    assert root.get(f"{FAULTS}0123456789abcdef/").status_code == 404
    assert root.get(f"{FAULTS}0123456789abcdef/act/replay/").status_code == 404
    for dead_letter_id in ("7", "x", "9" * 30):
        assert root.get(f"{LETTERS}{dead_letter_id}/change/").status_code == 404


def test_links_between_the_pages(root: Client) -> None:
    letter = fail(2)[0]
    assert f'href="{FAULTS}" aria-current="page"' in root.get(FAULTS).content.decode()
    flat = root.get(LETTERS).content.decode()
    assert f'href="{FAULTS}" aria-current="page"' in flat  # the navigation
    assert f'href="{LETTERS}" aria-current="page"' in flat  # the tab
    fault = root.get(fault_url(letter)).content.decode()
    assert dead_letter_url(letter) in fault
    shown = root.get(dead_letter_url(letter))
    assert fault_url(letter) in shown.content.decode()
    assert "1 other is open." in text(shown)


# --- the page of a letter -------------------------------------------------------------------------


def test_the_page_of_a_dead_letter(root: Client) -> None:
    (letter,) = fail(organization="acme")
    shown = text(root.get(dead_letter_url(letter)))
    for part in (
        *(
            "test-fail: dead letter",
            "open",
            "ValueError",
            "the partner is away",
            "Traceback (most recent call last)",
        ),
        *(
            '"message": "the partner is away"',
            "all attempts failed",
            "acme",
            "1/1",
            "No others are open.",
            "failed",
        ),
    ):
        assert part in shown, part
    assert buttons(root.get(dead_letter_url(letter))) == set(VERBS)
    assert "Error ValueError: the partner is away" in text(
        root.get(dead_letter_url(letter, "act/discard/"))
    )


def test_long_traceback_and_message(root: Client) -> None:
    (letter,) = fail()
    DeadLetter.objects.update(traceback="t" * 5_000_000 + "the very end", message="m" * 5_000_000)
    response = root.get(dead_letter_url(letter))
    assert len(response.content) < 100_000
    assert "the very end" in text(response)
    whole = root.get(dead_letter_url(letter, "traceback.txt"))
    assert whole["Content-Type"] == "text/plain; charset=utf-8"
    assert len(whole.content) == 5_000_012
    for url in (FAULTS, fault_url(letter)):
        assert len(root.get(url).content) < 100_000


def test_data_is_masked_and_needs_a_permission() -> None:
    jobs.secret.enqueue(token="open sesame", fail=True)
    work()
    Books().fold()
    letter = DeadLetter.objects.get()
    seer, looker = (
        client_of(staff("view_deadletter", "view_payload", *VERBS.values())),
        client_of(staff("view_deadletter", *VERBS.values())),
    )
    assert '"token": "********"' in text(seer.get(dead_letter_url(letter)))
    assert "edit" in buttons(seer.get(dead_letter_url(letter)))
    hidden = looker.get(dead_letter_url(letter))
    assert '"token"' not in text(hidden)
    assert buttons(hidden) == set(VERBS) - {"edit"}
    assert looker.get(dead_letter_url(letter, "act/edit/")).status_code == 403
    assert (
        looker.post(dead_letter_url(letter, "act/edit/"), {**REASON, "data": "{}"}).status_code
        == 403
    )
    for client in (seer, looker):
        for url in (
            FAULTS,
            fault_url(letter),
            dead_letter_url(letter),
            dead_letter_url(letter, "traceback.txt"),
        ):
            assert b"open sesame" not in client.get(url).content
    assert b"open sesame" not in seer.get(dead_letter_url(letter, "act/edit/")).content


@pytest.mark.parametrize("verb", VERBS)
def test_each_dead_letter_action_has_its_permission(verb: str) -> None:
    (letter,) = fail()
    url = dead_letter_url(letter, f"act/{verb}/")
    sent = {**REASON, "data": '{"message": "x"}', "person": ""}
    others = client_of(
        staff("view_deadletter", "view_payload", *(set(VERBS.values()) - {VERBS[verb]}))
    )
    assert verb not in buttons(others.get(dead_letter_url(letter)))
    assert others.get(url).status_code == 403
    assert others.post(url, sent).status_code == 403
    assert not AuditEntry.objects.exclude(action="failed").exists()
    allowed = client_of(staff("view_deadletter", "view_payload", VERBS[verb]))
    assert buttons(allowed.get(dead_letter_url(letter))) == {verb}
    assert allowed.get(url).status_code == 200
    assert allowed.post(url, {**sent, "reason": " "}).status_code == 200
    assert not AuditEntry.objects.exclude(action="failed").exists()
    assert allowed.post(url, sent).status_code == 302
    assert {entry.reason for entry in AuditEntry.objects.exclude(action="failed")} == {
        REASON["reason"]
    }


@pytest.mark.parametrize("verb", FAULT_VERBS)
def test_each_fault_action_has_its_permission(verb: str) -> None:
    letter = fail(2)[0]
    url = fault_url(letter, f"act/{verb}/")
    others = client_of(
        staff("view_deadletter", "view_payload", *(set(VERBS.values()) - {FAULT_VERBS[verb]}))
    )
    assert verb not in buttons(others.get(fault_url(letter)))
    assert others.get(url).status_code == 403
    assert others.post(url, REASON).status_code == 403
    allowed = client_of(staff("view_deadletter", FAULT_VERBS[verb]))
    assert verb in buttons(allowed.get(fault_url(letter)))
    assert allowed.post(url, {**REASON, "note": "mine"}).status_code == 302
    assert AuditEntry.objects.exclude(action="failed").exists()


def test_closed_dead_letters_have_no_buttons(root: Client) -> None:
    (letter,) = fail()
    operations.discard(letter)
    assert buttons(root.get(dead_letter_url(letter))) == set()
    assert "already discarded" in text(root.get(dead_letter_url(letter, "act/replay/")))
    response = root.post(dead_letter_url(letter, "act/replay/"), REASON, follow=True)
    assert f"Dead letter {letter.pk} is discarded already" in messages(response)
    assert "No dead letters of this fault match" in text(root.get(fault_url(letter)))
    assert buttons(root.get(f"{fault_url(letter)}?status=any")) == set()
    assert "None of these dead letters is open" in text(root.get(fault_url(letter, "act/replay/")))
    assert root.get(dead_letter_url(letter, "act/burn/")).status_code == 404
    assert root.get(fault_url(letter, "act/burn/")).status_code == 404


def test_dead_letters_of_rq_jobs_can_only_be_discarded(root: Client) -> None:
    job = JobRecord.objects.create(
        name="f", queue="default", state="failed", rq_id="x", created_at=timezone.now()
    )
    letter = DeadLetter.objects.create(
        job=job, reason="exhausted", fingerprint="f0", created_at=timezone.now()
    )
    assert buttons(root.get(dead_letter_url(letter))) == {"assign", "discard"}
    assert "enqueued by plain RQ code" in text(root.get(dead_letter_url(letter, "act/edit/")))


def organizations_of(user: User) -> list[str] | None:
    return ["acme"]


def test_staff_of_one_organization(settings: Any) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.admin.test_dead_letters.organizations_of",
    }
    mine, theirs = fail(2, organization="acme"), fail(3, organization="globex")
    (only_theirs,) = fail(1, "no such file", organization="globex")
    client = client_of(staff("view_deadletter", "view_payload", *VERBS.values()))
    shown = text(client.get(FAULTS))
    assert "2 dead letters" in shown
    assert "no such file" not in shown
    for url in (
        dead_letter_url(theirs[0]),
        dead_letter_url(theirs[0], "traceback.txt"),
        dead_letter_url(theirs[0], "act/replay/"),
    ):
        assert client.get(url).status_code == 404
    assert client.post(dead_letter_url(theirs[0], "act/replay/"), REASON).status_code == 404
    assert client.get(fault_url(only_theirs)).status_code == 404
    assert client.post(fault_url(only_theirs, "act/discard/"), REASON).status_code == 404
    page = client.get(f"{fault_url(mine[0])}?organization=globex")
    assert str(theirs[0].job_id) not in text(page)
    assert "1 other is open" in text(client.get(dead_letter_url(mine[0])))
    operations.send_canary(DeadLetter.objects.filter(pk=theirs[0].pk))
    assert str(theirs[0].job_id) not in text(client.get(fault_url(mine[0])))  # nor as a canary
    assert client.post(fault_url(mine[0], "act/discard/"), REASON).status_code == 302
    assert set(DeadLetter.objects.filter(status="discarded")) == set(mine)


# --- edit and replay ------------------------------------------------------------------------------


def edit(client: Client, letter: DeadLetter, data: Any) -> Any:
    data = data if isinstance(data, str) else json.dumps(data)
    return client.post(dead_letter_url(letter, "act/edit/"), {**REASON, "data": data}, follow=True)


def test_edit_data_and_replay(root: Client, books: Books) -> None:
    jobs.echo.using(max_attempts=1).enqueue(value=1)
    handle = jobs.secret.enqueue(token="open sesame", fail=True)
    work()
    books.fold()
    letter = DeadLetter.objects.get()
    before = handle.record().data
    assert "The job was replayed with the edited data" in messages(
        edit(root, letter, {"token": "********", "fail": False})
    )
    work()
    job = books.row(handle)
    assert (job.state, job.result, job.replays) == ("completed", 11, 1)
    letter.refresh_from_db()
    assert (letter.status, letter.former_data) == ("replayed", before)
    entries = AuditEntry.objects.exclude(action="failed").order_by("pk")
    assert list(entries.values_list("action", "target_type", "reason")) == [
        ("edited", "dead_letter", REASON["reason"]),
        ("replayed", "dead_letter", REASON["reason"]),
    ]
    assert entries[0].detail == {"name": "test-secret", "changed": ["fail"]}
    shown = text(root.get(dead_letter_url(letter)))
    former = shown.partition("Data it failed with")[2]
    assert '"token": "********"' in former
    assert '"fail": true' in former
    assert "Data changed: fail" in text(root.get(f"/admin/wellos_jobs/jobrecord/{handle}/change/"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"massage": "x"}, "unknown argument 'massage'"),
        ("[]", "JSON object"),
        ("{", "valid"),
    ],
)
def test_invalid_data(root: Client, data: Any, expected: str) -> None:
    (letter,) = fail()
    response = edit(root, letter, data)
    assert 'class="errorlist"' in response.content.decode()
    assert expected in text(response)
    letter.refresh_from_db()
    assert letter.status == "open"
    assert letter.job.data == {"message": "the partner is away"}


def test_limit_keys_follow_the_edited_data(root: Client, books: Books) -> None:
    handle = guarded_jobs.per_account.using(max_attempts=1).enqueue(
        account="one", steps=["raise:ValueError"]
    )
    work()
    books.fold()
    letter = DeadLetter.objects.get()
    assert "account:one" in json.dumps(handle.record().context)
    edit(root, letter, {"account": "two", "steps": []})
    context = json.dumps(handle.record().context)
    assert "account:two" in context
    assert "account:one" not in context


def test_concurrent_edits_of_a_dead_letter() -> None:
    (letter,) = fail()
    operations.replay_edited(letter, {"message": "first"})
    with pytest.raises(InvalidOperation, match="no longer open"):
        operations.replay_edited(letter, {"message": "second"})
    assert payload.decode(JobRecord.objects.get().data) == {"message": "first"}


def test_edit_while_redis_is_down_waits_for_the_relay(root: Client, use_redis: UseRedis) -> None:
    (letter,) = fail()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    assert text(root.get(dead_letter_url(letter)))
    edit(root, letter, {"message": "x"})
    job = JobRecord.objects.get()
    assert (job.state, job.enqueued_at) == ("waiting", None)


# --- canary, all, assign --------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["waiting", "failed", "another", "completed"])
def test_the_canary(root: Client, ending: str) -> None:
    letters = fail(3)
    newest = letters[-1]
    DeadLetter.objects.filter(pk=newest.pk).update(created_at=timezone.now() + timedelta(seconds=5))
    if ending != "failed":  # the world has changed meanwhile
        data = {"message": "a file is missing" if ending == "another" else "x"}
        JobRecord.objects.filter(pk=newest.job_id).update(data=data)
    if ending == "completed":
        JobRecord.objects.filter(pk=newest.job_id).update(name="test-noop", data={})
    response = root.post(fault_url(newest, "act/canary/"), REASON, follow=True)
    assert f"Job {newest.job_id} was replayed as a canary" in messages(response)
    assert DeadLetter.objects.filter(status="open").count() == 2
    if ending != "waiting":
        work()
        Books().fold()
    page = root.get(fault_url(newest))
    expected = {
        "waiting": "The canary has not finished",
        "failed": "The canary failed again: the partner is away",
        "another": "The canary failed again: a file is missing This is a different fault.",
        "completed": "The canary completed. You can replay the others.",
    }
    assert expected[ending] in text(page)
    assert ("data-wj-live" in page.content.decode()) == (ending == "waiting")
    entry = faults.last_canary(newest.fingerprint)
    assert entry is not None
    assert (entry.actor_name, entry.detail["job"]) == ("root", str(newest.job_id))


def test_no_canary_without_open_dead_letters() -> None:
    with pytest.raises(InvalidOperation, match="None of these dead letters is open"):
        operations.send_canary(DeadLetter.objects.all())


def test_replay_all_of_a_fault(root: Client) -> None:
    mine, other = fail(3), fail(1, "no such file")
    assert "3 jobs are requeued" in text(root.get(fault_url(mine[0], "act/replay/")))
    response = root.post(fault_url(mine[0], "act/replay/"), REASON, follow=True)
    assert "3 dead letters replayed" in messages(response)
    assert list(DeadLetter.objects.filter(status="open")) == other
    root.post(fault_url(other[0], "act/discard/"), REASON)
    other[0].refresh_from_db()
    assert (other[0].status, other[0].note) == ("discarded", REASON["reason"])


def test_replay_at_a_rate_runs_as_a_job(root: Client) -> None:
    mine = [*fail(3, queue="email", organization="acme"), *fail(2, organization="acme")]
    url = f"{fault_url(mine[0], 'act/replay/')}?queue=email&organization=acme&window=24h"
    assert "Maximum rows per second" in text(root.get(url))
    response = root.post(url, {**REASON, "rate": "100"}, follow=True)
    operation = BulkOperation.objects.get()
    assert response.redirect_chain[-1][0].endswith(f"/bulkoperation/{operation.pk}/change/")
    assert "The action runs as a job" in messages(response)
    assert (operation.total, operation.options, operation.reason) == (
        3,
        {"rate": 100.0},
        REASON["reason"],
    )
    work("default")
    operation.refresh_from_db()
    assert (operation.done, operation.refused) == (3, 0)
    assert set(DeadLetter.objects.filter(status="replayed")) == set(mine[:3])


def test_many_dead_letters_are_discarded_by_a_job(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wellos_jobs.admin.dead_letters.fault_page.MAX_INLINE", 2)
    mine, other = fail(3), fail(1, "no such file")
    root.post(fault_url(mine[0], "act/discard/"), REASON)
    assert not DeadLetter.objects.filter(status="discarded").exists()
    work("default")
    assert set(DeadLetter.objects.filter(status="open")) == set(other)


def test_many_dead_letters_are_assigned_by_a_job(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wellos_jobs.admin.dead_letters.fault_page.MAX_INLINE", 2)
    monkeypatch.setattr(bulk, "CHUNK", 2)
    mine = fail(5)
    operations.discard(mine[0])
    ann = User.objects.create_user("ann", is_staff=True)
    sent = {**REASON, "person": "ann", "note": "ask the partner"}
    response = root.post(fault_url(mine[1], "act/assign/"), sent, follow=True)
    assert "The action runs as a job" in messages(response)
    assert not DeadLetter.objects.exclude(assigned_to=None).exists()
    work("default")
    operation = BulkOperation.objects.get()
    assert (operation.action, operation.done, operation.refused) == ("assign_dead_letters", 4, 0)
    assert operation.options["choice"] == {"person": str(ann.pk), "note": "ask the partner"}
    assigned = DeadLetter.objects.filter(assigned_to=ann, note="ask the partner")
    assert set(assigned) == set(mine[1:])
    assert AuditEntry.objects.filter(action="assigned", target_type="dead_letter").count() == 4
    shown = text(root.get(response.redirect_chain[-1][0]))
    assert "Person ann" in shown
    assert "Note ask the partner" in shown


def test_dead_letters_are_not_assigned_to_inactive_users(root: Client) -> None:
    letter = fail()[0]
    report = operations.assign_many([letter], 0)
    assert (report.done, report.refused) == (
        0,
        [
            "The assignee no longer exists, or may not log in",
        ],
    )


def test_assign_from_the_list(root: Client) -> None:
    mine = fail(2)
    operations.discard(mine[0])
    sent = {
        "action": "assign_dead_letters",
        "_selected_action": [str(letter.pk) for letter in mine],
    }
    asked = text(root.post(LETTERS, sent))
    assert "1 open dead letter is assigned" in asked
    assert "1 is already discarded" in asked
    wrong = root.post(LETTERS, {**sent, "confirm": "yes", "reason": "x", "person": "nobody-here"})
    assert "There is no staff member with the username" in text(wrong)
    done = root.post(
        LETTERS, {**sent, "confirm": "yes", "reason": "x", "person": "root"}, follow=True
    )
    assert "1 dead letter assigned" in messages(done)
    assert f"Dead letter {mine[0].pk} is no longer open" in messages(done)


def test_the_list_matches_the_page_of_a_fault(root: Client) -> None:
    mine = [*fail(2, queue="email", organization="acme"), *fail(2, organization="acme")]
    page = root.get(
        f"{fault_url(mine[0])}?queue=email&organization=acme&window=7d&name=test-fail"
    ).content.decode()
    address = re.search(r'href="([^"]+)">Select individual dead letters', page)
    assert address is not None
    shown = root.get(html.unescape(address[1]))
    assert "2 dead letters" in text(shown)
    assert dead_letter_url(mine[1]) in shown.content.decode()


def test_actions_respect_the_filters(root: Client) -> None:
    mine = [*fail(2, queue="email"), *fail(2)]
    url = f"{fault_url(mine[0])}?queue=email"
    page = root.get(url).content.decode()
    assert f"{fault_url(mine[0], 'act/discard/')}?queue=email" in page
    root.post(f"{fault_url(mine[0], 'act/discard/')}?queue=email", REASON)
    assert set(DeadLetter.objects.filter(status="discarded")) == set(mine[:2])


def test_assign(root: Client) -> None:
    letter = fail(2)[0]
    ada = User.objects.create_user("ada", is_staff=True)
    User.objects.create_user("customer")
    form = root.get(dead_letter_url(letter, "act/assign/")).content.decode()
    assert 'value="root"' in form
    for name in ("customer", "nobody"):
        response = root.post(dead_letter_url(letter, "act/assign/"), {**REASON, "person": name})
        assert f"There is no staff member with the username “{name}”" in text(response)
    root.post(
        dead_letter_url(letter, "act/assign/"),
        {**REASON, "person": "ada", "note": "ask the partner"},
    )
    letter.refresh_from_db()
    assert (letter.assigned_to, letter.note) == (ada, "ask the partner")
    assert AuditEntry.objects.get(action="assigned").detail == {
        "to": "ada",
        "note": "ask the partner",
    }
    for url in (dead_letter_url(letter), fault_url(letter)):
        assert "ada ask the partner" in text(root.get(url)).replace("Note ", "")
    response = root.post(fault_url(letter, "act/assign/"), {**REASON, "person": ""}, follow=True)
    assert "1 dead letter assigned" in messages(response), "the other one had no assignee"
    assert not DeadLetter.objects.exclude(assigned_to=None).exists()


def test_actions_need_the_csrf_token(root: Client) -> None:
    (letter,) = fail()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())
    for url in (dead_letter_url(letter, "act/replay/"), fault_url(letter, "act/replay/")):
        assert strict.post(url, REASON).status_code == 403


def test_viewing_changes_nothing(root: Client) -> None:
    letter = fail(2)[0]
    with CaptureQueriesContext(connections["default"]) as captured:
        for url in (
            FAULTS,
            fault_url(letter),
            dead_letter_url(letter),
            dead_letter_url(letter, "act/edit/"),
        ):
            root.get(url)
    assert not [
        query["sql"] for query in captured if re.match(r"\s*(INSERT|UPDATE|DELETE)", query["sql"])
    ]


@pytest.mark.urls("tests.admin.test_all_pages")
def test_on_a_custom_admin_site(root: Client) -> None:
    letter = fail(2, organization="acme")[0]
    root.post(fault_url(letter, "act/canary/").replace("/admin/", "/backoffice/"), REASON)
    job = f"/admin/wellos_jobs/jobrecord/{letter.job_id}/"
    urls = [
        FAULTS,
        fault_url(letter),
        fault_url(letter, "act/assign/"),
        dead_letter_url(letter),
        f"{job}change/",
    ]
    for url in (*urls, dead_letter_url(letter, "act/edit/"), f"{job}act/retry/", f"{job}copy/"):
        page = root.get(url.replace("/admin/", "/backoffice/"))
        assert page.status_code == 200, url
        assert "/admin/wellos_jobs/" not in page.content.decode(), url


@pytest.mark.urls("tests.support.small_site")
def test_bulk_replay_on_a_site_without_bulk_operations(root: Client) -> None:
    letter = fail(2)[0]
    url = fault_url(letter, "act/replay/").replace("/admin/", "/small/")
    response = root.post(url, {**REASON, "rate": "100"})
    assert response.url == fault_url(letter).replace("/admin/", "/small/")
    assert BulkOperation.objects.get().total == 2


# --- in a browser ---------------------------------------------------------------------------------


@pytest.mark.browser
def test_replay_by_keyboard(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    (letter,) = fail()
    page.goto(FAULTS)
    axe(page)
    narrow(page)
    press_to(page, "test-fail")
    page.wait_for_url(f"**{fault_url(letter)}*")
    axe(page)
    narrow(page)
    press_to(page, str(letter.pk))
    page.wait_for_url(f"**{dead_letter_url(letter)}")
    axe(page)
    narrow(page)
    press_to(page, "Replay")
    page.get_by_label("Reason").wait_for()
    axe(page)
    assert page.evaluate("document.activeElement.name") == "reason"
    page.keyboard.type("the partner is back")
    press_to(page, "Replay")
    page.get_by_text("The job was replayed", exact=True).wait_for()
    letter.refresh_from_db()
    assert (letter.status, letter.note) == ("replayed", "the partner is back")


def press_to(page: Any, label: str) -> None:
    """Press Tab until the element with this text has focus, then Enter."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip() == label:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"Tab leads to nothing that says {label!r}")


@pytest.mark.browser
def test_edit_replay_and_canary_in_the_browser(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    first, second, _third = fail(3)
    page.goto(dead_letter_url(first))
    page.get_by_role("link", name="Edit data and replay").click()
    axe(page)
    narrow(page)
    page.get_by_label("Data").fill('{"massage": "x"}')
    page.get_by_label("Reason").fill("a typing error")
    page.get_by_role("button", name="Edit data and replay").click()
    page.get_by_text("unknown argument 'massage'").wait_for()
    axe(page)
    page.get_by_label("Data").fill('{"message": "x"}')
    page.get_by_role("button", name="Edit data and replay").click()
    page.get_by_text("The job was replayed with the edited data").wait_for()
    page.goto(fault_url(second))
    page.evaluate("localStorage.setItem('wellos_jobs.refresh', '1')")
    page.get_by_role("link", name="Send a canary").click()
    page.get_by_label("Reason").fill("first one of them")
    page.get_by_role("button", name="Send a canary").click()
    page.get_by_text("The canary has not finished").wait_for()
    work()
    page.get_by_text("The canary failed again").wait_for()
