"""The page of a job: contents, permissions, queries and buttons."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import Flow, Priority, operations
from wellos_jobs.admin.flows_and_batches import layers
from wellos_jobs.broker import job_hash, keys, queues
from wellos_jobs.errors import InvalidOperation, PayloadError
from wellos_jobs.models import (
    AuditEntry,
    DeadLetter,
    JobAttempt,
    JobDependency,
    JobLog,
    JobRecord,
    JobStatistic,
)
from wellos_jobs.models.statistic import BUCKETS
from wellos_jobs.operations import edits

from .. import jobs
from ..conftest import UseRedis
from ..support.browser import axe, login, narrow
from ..support.engine import Books, Hand, work
from ..support.guarded_jobs import once
from ..support.servers import free_port
from ..support.users import client_of, staff, text

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]

SEES = ("view_jobrecord", "view_payload")
VERBS = {
    "retry": "retry_job",
    "promote": "promote_job",
    "priority": "change_job_priority",
    "move": "move_job",
    "cancel": "cancel_job",
}


def url_of(job: Any, below: str = "change/") -> str:
    return f"/admin/wellos_jobs/jobrecord/{getattr(job, 'pk', job)}/{below}"


def failed(books: Books, message: str = "the partner is away", **options: Any) -> JobRecord:
    handle = jobs.fail.using(**options).enqueue(message=message)
    work()
    return books.row(handle)


def links(response: Any) -> set[str]:
    """Return the buttons of the page of a job, by the last part of their URLs."""
    found = re.findall(
        r'<a class="wj-button[^"]*" href="[^"]*/(?:act/)?(\w+)/"', response.content.decode()
    )
    return set(found)


# --- what it shows --------------------------------------------------------------------------------


def test_the_timeline(root: Client, books: Books) -> None:
    record = failed(books, organization="acme")
    operations.retry(record, by=User.objects.get(), reason="partner is back")
    work()
    books.fold()
    shown = text(root.get(url_of(record)))
    parts = (
        *("test-fail", "failed", "Timeline", "Created", "Attempt 1 started", "on worker burst"),
        *(
            "Attempt 1: failed for good",
            "ValueError: the partner is away",
            "Failed for good: a dead letter was created",
        ),
        *(
            "Retried with fresh attempts",
            "by root: partner is back",
            "Enqueued again",
            "Attempt 1 started",
        ),
        *(
            "Attempt 1: failed for good",
            "Dead letters",
            "replayed",
            "Unsuccessful attempts",
            "replay 1",
        ),
        *("Traceback (most recent call last)", "Facts", str(record.pk), "acme"),
        *("Audit log", "retried", "root", "partner is back"),
    )
    at = 0
    for part in parts:
        found = shown.find(part, at)
        assert found >= 0, f"{part!r} is not behind {shown[max(0, at - 60) : at]!r}"
        at = found + len(part)
    assert shown.count("Attempt 1 started") == 2
    assert '"message": "the partner is away"' in shown


def test_the_delay_before_a_retry(root: Client, books: Books) -> None:
    handle = jobs.fail.using(max_attempts=2).enqueue()
    work()
    shown = text(root.get(url_of(books.row(handle))))
    assert re.search(
        r"Attempt 1: failed, retried later .*?Due for its next attempt \+\d\.\d s", shown
    )
    assert "Why is it waiting? Its last attempt failed; it is tried again at" in shown


@pytest.mark.parametrize("state", ["waiting", "delayed", "active", "completed", "canceled"])
def test_a_job_in_each_state(root: Client, books: Books, state: str) -> None:
    handle = jobs.noop.using(delay=60 if state == "delayed" else None).enqueue()
    if state == "active":
        Hand().take()
    elif state == "completed":
        work()
    elif state == "canceled":
        operations.cancel(handle.record())
    books.fold()
    response = root.get(url_of(handle))
    shown = text(response)
    assert f'wj-{state}">{state}<' in response.content.decode()
    assert ("Why is it waiting?" in shown) == (state in {"waiting", "delayed", "active"})
    assert ("data-wj-live" in response.content.decode()) == (
        state in {"waiting", "delayed", "active"}
    )
    assert {"completed": "Completed after", "canceled": "Canceled"}.get(state, "Created") in shown


def test_newer_values_from_redis(root: Client) -> None:
    handle = jobs.add.enqueue(a=41)
    work()
    assert handle.record().state == "waiting"
    shown = text(root.get(url_of(handle)))
    assert "completed" in shown
    assert "Result 42" in shown
    assert handle.record().state == "waiting"  # looking saved nothing


def test_redis_is_down(root: Client, use_redis: UseRedis) -> None:
    handle = jobs.noop.enqueue()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    shown = text(root.get(url_of(handle)))
    assert "waiting" in shown
    assert "Redis is unavailable" in shown


@pytest.mark.parametrize("fault", ["status", "kind", "missing", "limits"])
def test_corrupt_or_missing_hash(root: Client, redis_client: redis.Redis, fault: str) -> None:
    handle = jobs.noop.enqueue()
    key = keys.job(handle)
    match fault:
        case "status":
            redis_client.hset(key, "status", "puzzled")
        case "kind":
            redis_client.delete(key)
            redis_client.set(key, "a text")
        case "missing":
            redis_client.delete(key)
        case "limits":
            Hand()  # a worker, else the page says only that there is none
            redis_client.hset(key, mapping={job_hash.PARKED_AT: "c:x", job_hash.LIMITS: "{"})
    shown = text(root.get(url_of(handle)))
    expected = {
        "status": "cannot be read",
        "kind": "cannot be read",
        "missing": "Redis does not know it yet",
        "limits": "The reason for waiting is unknown",
    }
    assert expected[fault] in shown


def test_long_traceback(root: Client, books: Books) -> None:
    record = failed(books)
    JobAttempt.objects.update(traceback="Traceback" + "x" * 5_000_000 + "the very end")
    response = root.get(url_of(record))
    assert len(response.content) < 100_000
    assert "the very end" in text(response)
    assert "characters omitted" in text(response)
    address = re.search(r'href="([^"]+traceback\.txt)"', response.content.decode())
    assert address is not None
    whole = root.get(address[1])
    assert whole["Content-Type"] == "text/plain; charset=utf-8"
    assert whole["X-Content-Type-Options"] == "nosniff"
    assert len(whole.content) == 5_000_021
    assert (
        root.get(url_of(uuid.uuid4(), address[1].partition(f"{record.pk}/")[2])).status_code == 404
    )


def test_long_error(root: Client, books: Books) -> None:
    record = failed(books)
    JobRecord.objects.update(error="e" * 5_000_000)
    assert len(root.get(url_of(record)).content) < 100_000


@pytest.mark.parametrize("job_id", ["nonsense", "00000000-0000-0000-0000-000000000000"])
def test_a_missing_job(root: Client, job_id: str) -> None:
    assert root.get(url_of(job_id)).status_code == 404


def test_the_log_by_level(root: Client, books: Books) -> None:
    record = failed(books)
    JobLog.objects.create(job=record, number=1, lines=[[1.5, "INFO", "old.run", "long <b>ago</b>"]])
    lines = [
        [1700000000.25, level, "partner", f"a {level} line"]
        for level in ("DEBUG", "WARNING", "ERROR")
    ]
    JobLog.objects.create(job=record, replay=1, number=1, lines=lines, dropped=7)
    shown = text(root.get(url_of(record)))
    assert re.search(
        r"Attempt 1 replay 1 7 earlier lines were not kept\..*?"
        r"22:13:20\.250 DEBUG partner a DEBUG line",
        shown,
    )
    assert (
        shown.index("a ERROR line") < shown.index("Earlier runs") < shown.index("long <b>ago</b>")
    )
    some = text(root.get(url_of(record, "change/?level=WARNING")))
    assert "a DEBUG line" not in some
    assert "a WARNING line" in some
    assert "a ERROR line" in some
    assert "No lines of this level." in some


def test_search_in_the_log(root: Client, books: Books) -> None:
    record = failed(books)
    lines = [[1700000000 + n, "INFO", "shop", f"line {n:03}"] for n in range(40)]
    lines[10][3] = "the <Partner> is away"
    lines[11][1:] = ["ERROR", "shop", "partner, partner"]
    JobLog.objects.create(
        job=record, number=1, lines=[[1.5, "INFO", "old.run", "a PARTNER of old"]]
    )
    for number in range(2, 8):
        JobLog.objects.create(job=record, number=number, lines=lines[20:])
    JobLog.objects.create(job=record, number=8, lines=lines)
    page = root.get(url_of(record, "change/?log=partner"))
    shown = text(page)
    assert "3 matching lines." in shown
    assert re.search(
        r"line 008 .*line 009 .*the < Partner > is away .*partner , partner .*line 012 .*line 013 ",
        shown,
    )
    assert "line 007" not in shown
    assert "line 014" not in shown
    assert "a PARTNER of old" in shown, "of a run that is not shown otherwise"
    assert page.content.count(b"<mark>") == 4
    assert b"the &lt;<mark>Partner</mark>&gt; is away" in page.content
    assert page.content.count(b'class="wj-log"') == 2, "runs without the text are left out"
    assert "1 matching line." in text(root.get(url_of(record, "change/?log=partner&level=ERROR")))
    assert "0 matching lines." in text(root.get(url_of(record, "change/?log=[a-z]")))


def test_matching_log_lines_are_capped(root: Client, books: Books) -> None:
    record = failed(books)
    lines = [[1700000000 + n, "INFO", "shop", f"line {n:03}"] for n in range(500)]
    for number in range(3):
        JobLog.objects.create(job=record, number=number + 1, lines=lines)
    page = root.get(url_of(record, "change/?log=LINE"))
    assert "The first 200 matching lines" in text(page)
    assert page.content.count(b"<mark>") == 200


def test_the_holder_of_the_unique_key(root: Client) -> None:
    first = once.enqueue(number=5)
    assert re.search(r"Unique key [0-9a-f]{12}…, held by this job", text(root.get(url_of(first))))
    copy = JobRecord.objects.get(pk=first.id)
    copy.pk = uuid.uuid4()
    copy.save(force_insert=True)
    assert f"held by {first.id}" in text(root.get(url_of(copy)))


def test_similar_jobs(root: Client, books: Books) -> None:
    for _ in range(3):
        jobs.add.enqueue(a=1)
    work()
    job = jobs.add.enqueue(a=2)
    jobs.noop.enqueue()
    books.fold()
    JobStatistic.objects.all().delete()
    slow = [0, 0, 0, 50, 0, 0, 45, 0, 0, 0, 5, *[0] * (len(BUCKETS) - 10)]
    JobStatistic.objects.create(
        begins_at=timezone.now(), queue="reports", name="test-add", run_histogram=slow
    )
    shown = text(root.get(url_of(job)))
    assert "Success, last 3 100 % Run p50, 24 h ≤ 100 ms Run p95, 24 h ≤ 1.0 s" in shown
    assert shown.partition("Similar jobs")[2].count("completed") == 3


# --- flows ----------------------------------------------------------------------------------------


def test_a_flow_is_drawn_with_links_and_edges(root: Client) -> None:
    flow = Flow(
        jobs.noop.with_data(), children=[jobs.add.with_data(a=1), jobs.add.with_data(a=2)]
    ).enqueue()
    parent, first, second = flow.handles
    page = root.get(url_of(first)).content.decode()
    svg = page[page.index('<svg class="wj-flow"') :].partition("</svg>")[0]
    assert svg.count('marker-end="url(#wj-arrow)"') == 2
    assert set(re.findall(r'<a class="wj-node[^>]*href="([^"]+)"', svg)) == {
        url_of(parent),
        url_of(second),
    }
    assert 'aria-label="test-noop: waiting"' in svg
    assert "wj-node-blocked wj-node-here" in svg
    assert "style=" not in svg
    shown = text(root.get(url_of(first)))
    assert re.search(rf"As a table Job State Needs .*test-add {second} blocked test-noop", shown)
    assert "Parent: test-noop" in shown
    assert "Why is it waiting? It waits for test-noop" in shown


def test_a_job_with_needs_and_dependents_but_no_flow(root: Client) -> None:
    first = jobs.noop.enqueue()
    second = jobs.add.using(depends_on=[first]).enqueue(a=1)
    third = jobs.add.using(depends_on=[second]).enqueue(a=2)
    page = root.get(url_of(second)).content.decode()
    assert page.count('marker-end="url(#wj-arrow)"') == 2
    assert url_of(third) in page
    assert '<svg class="wj-flow"' not in root.get(url_of(jobs.noop.enqueue())).content.decode()


def test_a_large_flow_is_a_list(root: Client) -> None:
    children = [jobs.add.with_data(a=n) for n in range(200)]
    flow = Flow(jobs.noop.with_data(), children=children).enqueue()
    response = root.get(url_of(flow.handles[0]))
    assert "not drawn for more than 200 jobs" in text(response)
    assert '<svg class="wj-flow"' not in response.content.decode()


@pytest.mark.parametrize("shape", ["chain", "star", "diamond", "circle", "random"])
def test_layout_nodes_do_not_overlap(shape: str) -> None:
    count = {"random": 150}.get(shape, 12)
    edges = {
        "chain": [(n, n + 1) for n in range(count - 1)],
        "star": [(0, n) for n in range(1, count)],
        "diamond": [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3), (3, 99)],
        "circle": [(n, (n + 1) % count) for n in range(count)],
        "random": [(n, n + 1 + (n * 7) % 13) for n in range(count - 14)],
    }[shape]
    plan = layers.layout(range(count), edges)
    boxes = list(plan.places.values())
    assert len(boxes) == count
    for at, (x, y) in enumerate(boxes):
        assert 0 <= x <= plan.width - layers.WIDTH
        assert 0 <= y <= plan.height - layers.HEIGHT
        for other_x, other_y in boxes[:at]:
            assert x != other_x or abs(y - other_y) >= layers.HEIGHT
    if shape != "circle":
        for start, end in plan.lines:
            assert plan.places[start][0] + layers.WIDTH < plan.places[end][0]


# --- cost -----------------------------------------------------------------------------------------


def test_queries_of_the_page_are_constant(root: Client, books: Books, round_trips: Any) -> None:
    record = failed(books)
    flow = Flow(jobs.noop.with_data(), children=[jobs.add.with_data(a=1)]).enqueue()
    JobRecord.objects.filter(pk=record.pk).update(flow_id=flow.id, parent=flow.handles[0].id)

    def cost(job: Any) -> int:
        with CaptureQueriesContext(connections["default"]) as captured:
            assert root.get(url_of(job)).status_code == 200
        return len(captured)

    cost(record)
    before = cost(record)
    now = timezone.now()
    for number in range(2, 20):
        JobAttempt.objects.create(job=record, number=number, outcome="retried", ended_at=now)
        JobLog.objects.create(job=record, number=number, lines=[[1.0, "INFO", "x", "y"]])
        DeadLetter.objects.create(job=record, reason="exhausted", created_at=now)
        other = jobs.fail.enqueue().record()
        JobRecord.objects.filter(pk=other.pk).update(flow_id=flow.id, parent=record.pk)
        JobDependency.objects.create(job=other, needs=record)
        AuditEntry.objects.create(
            at=now, action="retried", target_type="job", target_id=str(record.pk)
        )
    assert cost(record) == before
    assert before <= 13
    waiting = jobs.noop.enqueue().record()
    with round_trips.counting() as few:
        root.get(url_of(waiting))
    jobs.noop.enqueue_bulk([{}] * 50)
    with round_trips.counting() as many:
        root.get(url_of(waiting))
    assert len(few) == len(many) <= 12


def test_viewing_changes_nothing(root: Client, books: Books, redis_client: redis.Redis) -> None:
    handle = jobs.noop.enqueue()
    books.fold()
    before = {key: redis_client.dump(key) for key in redis_client.keys("*")}
    with CaptureQueriesContext(connections["default"]) as captured:
        root.get(url_of(handle))
        root.get(url_of(handle, "act/cancel/"))
        root.get(url_of(handle, "copy/"))
    assert {key: redis_client.dump(key) for key in redis_client.keys("*")} == before
    assert not [
        query["sql"] for query in captured if re.match(r"\s*(INSERT|UPDATE|DELETE)", query["sql"])
    ]


# --- who sees and does what -----------------------------------------------------------------------


def test_data_is_masked_and_needs_a_permission(books: Books) -> None:
    handle = jobs.secret.enqueue(token="open sesame")
    work()
    books.fold()
    seen = text(client_of(staff(*SEES)).get(url_of(handle)))
    assert '"token": "********"' in seen
    assert "Result 11" in seen
    hidden = text(client_of(staff("view_jobrecord")).get(url_of(handle)))
    assert "token" not in hidden
    assert "Result" not in hidden
    assert "Can see the data and result of jobs" in hidden
    assert "open sesame" not in seen + hidden


def test_staff_requesters_see_the_data_of_their_jobs() -> None:
    client = client_of(staff("view_jobrecord"))
    mine = jobs.add.using(requested_by=User.objects.get()).enqueue(a=7)
    assert '"a": 7' in text(client.get(url_of(mine)))


@pytest.mark.parametrize("verb", VERBS)
def test_each_action_has_its_permission(books: Books, verb: str) -> None:
    job: Any = failed(books) if verb == "retry" else jobs.noop.using(delay=60).enqueue()
    books.fold()
    permission = VERBS[verb]
    others = client_of(staff(*SEES, "enqueue_job", *(set(VERBS.values()) - {permission})))
    assert verb not in links(others.get(url_of(job)))
    sent = {"action": "confirm", "verb": verb, "reason": "x", "priority": "1", "queue": "email"}
    assert others.get(url_of(job, f"act/{verb}/")).status_code == 403
    assert others.post(url_of(job, f"act/{verb}/"), sent).status_code == 403
    assert not AuditEntry.objects.exclude(action="failed").exists()
    allowed = client_of(staff("view_jobrecord", permission))
    assert links(allowed.get(url_of(job))) == {verb}
    assert allowed.get(url_of(job, f"act/{verb}/")).status_code == 200
    assert allowed.post(url_of(job, f"act/{verb}/"), sent).status_code == 302
    assert AuditEntry.objects.exclude(action="failed").get().reason == "x"


def test_one_who_only_looks_has_no_button(books: Books) -> None:
    looker = client_of(staff(*SEES))
    for job in (failed(books), jobs.noop.enqueue()):
        assert links(looker.get(url_of(job))) == set()
        assert looker.get(url_of(job, "copy/")).status_code == 403
        assert (
            looker.post(url_of(job, "copy/"), {"action": "confirm", "data": "{}"}).status_code
            == 403
        )


def test_the_buttons_fit_the_state(root: Client, books: Books) -> None:
    broken, waiting, delayed = (
        failed(books),
        jobs.noop.enqueue(),
        jobs.noop.using(delay=60).enqueue(),
    )
    foreign = JobRecord.objects.create(
        name="f", queue="default", state="failed", rq_id="x", created_at=timezone.now()
    )
    not_started = {"priority", "move", "cancel", "copy"}
    for job, expected in (
        (broken, {"retry", "copy"}),
        (waiting, not_started),
        (delayed, not_started | {"promote"}),
        (foreign, set()),
    ):
        assert links(root.get(url_of(job))) == expected


def organizations_of(user: User) -> list[str] | None:
    return None if user.username.startswith("all") else ["acme"]


def test_an_id_of_another_organization_is_not_found(settings: Any, books: Books) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.admin.test_job_page.organizations_of",
    }
    theirs = failed(books, organization="globex")
    mine = failed(books, organization="acme")
    client = client_of(staff("view_jobrecord", "view_payload", "enqueue_job", *VERBS.values()))
    attempt = JobAttempt.objects.get(job=theirs)
    for below in ("change/", "act/retry/", "copy/", f"attempts/{attempt.pk}/traceback.txt"):
        assert client.get(url_of(theirs, below)).status_code == 404
    assert (
        client.post(url_of(theirs, "act/retry/"), {"action": "confirm", "reason": "x"}).status_code
        == 404
    )
    assert client.get(url_of(mine, f"attempts/{attempt.pk}/traceback.txt")).status_code == 404
    shown = text(client.get(url_of(mine)))
    assert str(theirs.pk) not in shown  # no job like this, either
    assert "Run p50" not in shown
    data = json.dumps(mine.data)  # unchanged: the job is not declared with manual=True
    sent = {"action": "confirm", "data": data, "queue": "default", "priority": "5", "reason": "x"}
    response = client.post(url_of(mine, "copy/"), {**sent, "organization": "globex"})
    assert "You may not see jobs of organization “globex”" in text(response)
    assert client.post(url_of(mine, "copy/"), {**sent, "organization": "acme"}).status_code == 302


# --- acts -----------------------------------------------------------------------------------------


def act(client: Client, job: Any, verb: str, **fields: Any) -> str:
    """Act on a job and return what the page then tells."""
    sent = {"action": "confirm", "verb": verb, "reason": "the partner asked", **fields}
    response = client.post(url_of(job, f"act/{verb}/"), sent, follow=True)
    return " ".join(str(message) for message in response.context["messages"])


def test_what_the_buttons_do(root: Client, books: Books) -> None:
    record = failed(books)
    assert act(root, record, "retry") == "The job was retried"
    job = jobs.noop.using(delay=60).enqueue()
    assert act(root, job, "priority", priority="1") == "The priority was changed"
    assert act(root, job, "move", queue="email") == "The job was moved"
    assert (job.record().priority, job.record().queue) == (Priority.CRITICAL, "email")
    assert act(root, job, "promote") == "The job was enqueued to run now"
    assert queues.counts("email").waiting == 1
    assert act(root, job, "cancel") == "The job was canceled"
    books.fold()
    assert "is canceled already" in act(root, job, "cancel")
    entries = AuditEntry.objects.exclude(action="failed").order_by("pk")
    actions = ["retried", "changed priority", "moved", "promoted", "canceled"]
    assert list(entries.values_list("action", flat=True)) == actions
    assert set(entries.values_list("actor_name", "reason", "address")) == {
        ("root", "the partner asked", "127.0.0.1")
    }
    shown = text(root.get(url_of(job)))
    assert "Moved to queue email by root: the partner asked" in shown


def test_an_act_asks_why(root: Client, books: Books) -> None:
    record = failed(books)
    assert "The job is retried from the start" in text(root.get(url_of(record, "act/retry/")))
    response = root.post(
        url_of(record, "act/retry/"), {"action": "confirm", "verb": "retry", "reason": " "}
    )
    assert "This field is required." in text(response)
    assert JobRecord.objects.get().state == "failed"


def test_impossible_actions_are_refused(root: Client, books: Books, use_redis: UseRedis) -> None:
    waiting = jobs.noop.enqueue().record()
    assert "cannot be retried: it is waiting" in act(root, waiting, "retry")
    assert root.get(url_of(waiting, "act/burn/")).status_code == 404
    assert root.post(url_of(waiting, "act/cancel/"), {"action": "burn"}).status_code == 400
    foreign = JobRecord.objects.create(
        name="f", queue="default", state="failed", rq_id="x", created_at=timezone.now()
    )
    assert "enqueued with plain RQ" in text(root.get(url_of(foreign, "act/retry/")))
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    assert "Redis is unavailable" in act(root, waiting, "cancel")
    assert AuditEntry.objects.count() == 0


def test_a_forged_verb_has_the_permission_of_its_address(books: Books) -> None:
    """The verb in the URL counts, whose permission was checked."""
    job = jobs.noop.using(delay=60).enqueue()
    client = client_of(staff("view_jobrecord", "promote_job"))
    client.post(url_of(job, "act/promote/"), {"action": "confirm", "verb": "cancel", "reason": "x"})
    assert AuditEntry.objects.get().action == "promoted"


def test_actions_need_the_csrf_token(root: Client, books: Books) -> None:
    record = failed(books)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())
    for below in ("act/retry/", "copy/"):
        assert (
            strict.post(url_of(record, below), {"action": "confirm", "reason": "x"}).status_code
            == 403
        )


# --- a copy with other data -----------------------------------------------------------------------


def copy(client: Client, job: Any, data: Any, **fields: Any) -> Any:
    sent = {
        "queue": "default",
        "priority": "5",
        "organization": "",
        "reason": "a typing error",
        **fields,
    }
    data = data if isinstance(data, str) else json.dumps(data)
    return client.post(
        url_of(job, "copy/"), {"action": "confirm", "data": data, **sent}, follow=True
    )


def test_edit_a_copy_and_enqueue(root: Client, books: Books) -> None:
    handle = jobs.add.using(organization="acme", priority=Priority.LOW).enqueue(a=1)
    form = root.get(url_of(handle, "copy/")).content.decode()
    assert "&quot;a&quot;: 1" in form
    assert '<option value="reports" selected>' in form
    assert 'value="acme"' in form
    response = copy(
        root,
        handle,
        {"a": 41, "b": 2},
        queue="email",
        priority="1",
        delay="30",
        organization="globex",
    )
    assert "was enqueued" in text(response)
    made = JobRecord.objects.exclude(pk=handle.id).get()
    assert (made.data, made.queue, made.priority, made.organization_id) == (
        {"a": 41, "b": 2},
        "email",
        1,
        "globex",
    )
    assert made.state == "delayed"
    assert made.requested_by == User.objects.get()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target_id, entry.reason) == (
        "enqueued",
        str(made.pk),
        "a typing error",
    )
    assert entry.detail == {"name": "test-add", "copy_of": str(handle), "changed": ["a", "b"]}
    assert f"Created as a copy of job {handle}" in text(root.get(url_of(made)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": 1, "c": 2}, "unknown argument 'c'"),
        ({}, "missing argument 'a'"),
        ("[1]", "Give the job's arguments as a JSON object"),
        ("{", "Enter a valid JSON."),
        ({"a": "x" * 70_000}, "at most 65,536 are allowed"),
        ({"a": {"$uuid": "no"}}, "broken $uuid"),
    ],
)
def test_errors_in_data_are_shown_at_the_field(root: Client, data: Any, expected: str) -> None:
    handle = jobs.add.enqueue(a=1)
    response = copy(root, handle, data)
    assert expected in text(response)
    assert 'class="errorlist"' in response.content.decode()
    assert JobRecord.objects.count() == 1


def test_sensitive_values_are_kept_unless_replaced(root: Client) -> None:
    handle = jobs.secret.enqueue(token="open sesame")
    form = root.get(url_of(handle, "copy/")).content.decode()
    assert "********" in form
    assert "open sesame" not in form
    assert "$encrypted" not in form
    copy(root, handle, {"token": "********", "fail": True})
    copy(root, handle, {"token": "another"})
    plain = [edits.payload.decode(job.data) for job in JobRecord.objects.order_by("created_at")]
    assert [each["token"] for each in plain] == ["open sesame", "open sesame", "another"]
    assert "another" not in json.dumps([job.data for job in JobRecord.objects.all()])
    assert [entry.detail["changed"] for entry in AuditEntry.objects.order_by("pk")] == [
        ["fail"],
        ["token"],
    ]


def test_tagged_values_are_kept(root: Client) -> None:
    value = {
        "when": datetime(2026, 11, 24, tzinfo=UTC),
        "sum": Decimal("1.10"),
        "id": uuid.UUID(int=7),
    }
    handle = jobs.echo.enqueue(value=value)
    copy(root, handle, edits.editable(handle.record().data))
    made = JobRecord.objects.exclude(pk=handle.id).get()
    assert edits.payload.decode(made.data) == {"value": value}


def test_a_copy_with_a_held_unique_key(root: Client) -> None:
    handle = once.enqueue(number=5)
    response = copy(root, handle, {"number": 5})
    assert f"Not enqueued: job {handle} already holds the unique key" in text(response)
    assert JobRecord.objects.count() == 1
    assert AuditEntry.objects.count() == 0


def test_undeclared_jobs_cannot_be_copied(root: Client) -> None:
    job = JobRecord.objects.create(
        name="gone", queue="default", state="failed", created_at=timezone.now()
    )
    assert "No job gone is declared in this process" in text(root.get(url_of(job, "copy/")))
    assert "No job gone is declared in this process" in text(copy(root, job, {}))
    with pytest.raises(InvalidOperation, match="gone"):
        operations.enqueue_copy(job)


def test_a_mask_without_a_stored_value_is_refused() -> None:
    handle = jobs.secret.enqueue(token="x")
    job = handle.record()
    job.data = {}
    with pytest.raises(PayloadError, match="token: there is no stored value"):
        operations.enqueue_copy(job, {"token": "********"})


def test_copying_needs_the_payload_permission(books: Books) -> None:
    handle = jobs.add.enqueue(a=1)
    client = client_of(staff("view_jobrecord", "enqueue_job"))
    assert "copy" not in links(client.get(url_of(handle)))
    assert client.get(url_of(handle, "copy/")).status_code == 403


# --- in a browser ---------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_pages_of_a_flow_in_the_browser(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    flow = Flow(
        jobs.noop.with_data(), children=[jobs.add.with_data(a=1), jobs.fail.with_data()]
    ).enqueue()
    work()
    Books().fold()
    page.goto(url_of(flow.handles[1]))
    axe(page)
    narrow(page)
    node = page.get_by_role("link", name="test-noop: completed")
    node.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{url_of(flow.handles[0])}")
    page.get_by_role("link", name="Edit a copy and enqueue").click()
    axe(page)
    narrow(page)
    page.get_by_label("Reason").fill("once more")
    page.get_by_role("button", name="Enqueue").click()
    page.get_by_text("was enqueued").wait_for()
    assert JobRecord.objects.filter(name="test-noop").count() == 2


@pytest.mark.browser
def test_the_page_follows_the_job(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    job = jobs.add.enqueue(a=1)
    page.goto(url_of(job))
    page.evaluate("localStorage.setItem('wellos_jobs.refresh', '1')")
    page.reload()
    page.get_by_text("Why is it waiting?").wait_for()
    work()
    page.locator(".wj-jobstate", has_text="completed").wait_for()
