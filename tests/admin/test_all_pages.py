"""The admin pages: contents, permissions, queries and actions."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin import site as default_site
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, reverse
from django.utils import timezone

from wellos_jobs import Priority, admin, models
from wellos_jobs.models import AuditEntry, DeadLetter, JobAttempt, JobRecord
from wellos_jobs.states import DeadLetterStatus, JobState

from .. import jobs
from ..conftest import UseRedis
from ..support.engine import Books, Hand, work
from ..support.servers import free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]

JOBS = "/admin/wellos_jobs/jobrecord/"
LETTERS = "/admin/wellos_jobs/deadletter/"
LISTS = (JOBS, LETTERS, "/admin/wellos_jobs/jobattempt/", "/admin/wellos_jobs/auditentry/")
QUEUES = "/admin/wellos_jobs/queues/"


@pytest.fixture
def root() -> Client:
    """A client logged in as superuser."""
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@wellos.example"))
    return client


def browser(*permissions: str) -> Client:
    """A client logged in as a staff user with these permissions."""
    user = User.objects.create_user("-".join(permissions)[:150] or "nobody", is_staff=True)
    found = Permission.objects.filter(codename__in=permissions)
    assert len(found) == len(permissions)
    user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client


def text(response: Any) -> str:
    """Return the visible text of a page."""
    assert response.status_code == 200
    return f"{' '.join(html.unescape(re.sub(r'<[^>]+>', ' ', response.content.decode())).split())} "


def messages(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def operation_url(row: Any) -> str:
    return reverse(f"admin:wellos_jobs_{row._meta.model_name}_change", args=[row.pk])


def failed(books: Books, **options: Any) -> JobRecord:
    handle = jobs.fail.using(**options).enqueue(message="the partner is away")
    work()
    return books.row(handle)


def act(client: Client, url: str, action: str, rows: list[Any], **more: Any) -> Any:
    """Select rows in a list and run an action on them."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows], **more}
    return client.post(url, data, follow=True)


# --- lists ----------------------------------------------------------------------------------------


def test_the_list_of_jobs(root: Client, books: Books) -> None:
    user = User.objects.create_user("ada")
    jobs.noop.using(
        organization="acme", requested_by=user, priority=Priority.HIGH, queue="email"
    ).enqueue()
    done = jobs.add.enqueue(a=1)
    work("reports")
    books.fold()
    shown = text(root.get(JOBS))
    for part in (
        "test-noop",
        "waiting",
        "0/3",
        "acme",
        "ada",
        "high",
        "email",
        "test-add",
        "completed",
        "1/3",
        "2 jobs",
    ):
        assert part in shown
    assert operation_url(done.record()) in root.get(JOBS).content.decode()


def test_an_active_job_shows_its_progress(root: Client, books: Books) -> None:
    jobs.noop.enqueue()
    Hand().take()
    books.fold()
    JobRecord.objects.update(progress=40, progress_message="rendering <b>")
    page = root.get(JOBS).content.decode()
    assert '<progress max="100" value="40">' in page
    assert "rendering &lt;b&gt;" in page


def test_times_of_jobs(root: Client) -> None:
    now = timezone.now()
    base = {"queue": "default", "created_at": now - timedelta(hours=5)}
    ended = {
        "started_at": now - timedelta(hours=4),
        "finished_at": now - timedelta(hours=4) + timedelta(seconds=4.2),
    }
    JobRecord.objects.create(
        name="a", state="completed", enqueued_at=now - timedelta(hours=5), **ended, **base
    )
    JobRecord.objects.create(
        name="b", state="delayed", run_at=now + timedelta(minutes=9, seconds=30), **base
    )
    JobRecord.objects.create(
        name="c", state="active", started_at=now - timedelta(days=2, hours=3), **base
    )
    shown = text(root.get(JOBS))
    for part in ("1 h 0 min", "4.2 s", "in 9 min", "2 d 3 h"):
        assert part in shown


FILTERS = [
    "state__exact=failed",
    "queue=email",
    "priority__exact=1",
    "name=test-noop",
    "created_at__gte=2020-01-01T00:00Z",
]


@pytest.mark.parametrize("query", [*FILTERS, "queue__exact=email"])
def test_filters_of_jobs(root: Client, query: str) -> None:
    now = timezone.now()
    matching = JobRecord(
        name="test-noop", queue="email", state="failed", priority=1, created_at=now
    )
    matching.save(force_insert=True)
    JobRecord.objects.create(name="other", queue="default", created_at=now - timedelta(days=9000))
    shown = text(root.get(f"{JOBS}?{query}"))
    assert "1 job " in shown


def test_undeclared_job_names_can_be_filtered(root: Client) -> None:
    JobRecord.objects.create(name="invoices.jobs.send", queue="default", created_at=timezone.now())
    assert "1 job " in text(root.get(f"{JOBS}?name=invoices.jobs.send"))


def test_search_of_jobs(root: Client) -> None:
    ada = User.objects.create_user("ada.lovelace")
    common = {"queue": "default", "created_at": timezone.now()}
    wanted = JobRecord.objects.create(
        name="send-invoice",
        organization_id="org-42",
        requested_by=ada,
        error="no route to host",
        rq_id="f-1",
        **common,
    )
    JobRecord.objects.create(name="other", **common)
    for term in (
        str(wanted.pk),
        wanted.pk.hex,
        "send-inv",
        "ORG-42",
        "lovelace",
        "route to",
        "f-1",
        f" {wanted.pk} ",
    ):
        page = root.get(JOBS, {"q": term})
        assert operation_url(wanted) in page.content.decode(), term
        assert "1 job " in text(page), term
    for term in ("nothing", "00000000-0000-0000-0000-000000000000", "%"):
        assert "0 jobs" in text(root.get(JOBS, {"q": term})), term


def test_search_of_dead_letters_attempts_and_audit(root: Client, books: Books) -> None:
    record = failed(books, organization="acme")
    other = failed(books)
    letter = DeadLetter.objects.get(job=record)
    for url, terms in (
        (LETTERS, [str(record.pk), "acme"]),
        ("/admin/wellos_jobs/jobattempt/", [str(record.pk)]),
        ("/admin/wellos_jobs/auditentry/", [str(record.pk)]),
    ):
        for term in terms:
            assert re.search(
                r"\b1 (dead letter|attempt|audit entry) ", text(root.get(url, {"q": term}))
            ), (url, term)
    assert "2 dead letters" in text(root.get(LETTERS, {"q": letter.fingerprint}))
    assert "2 dead letters" in text(root.get(LETTERS, {"q": "partner is away"}))
    assert other.pk != record.pk


def test_filters_of_dead_letters(root: Client, books: Books) -> None:
    failed(books, queue="email")
    failed(books)
    for query in ("queue=email", "name=test-fail&queue=email"):
        assert "1 dead letter " in text(root.get(f"{LETTERS}?{query}"))
    assert "2 dead letters" in text(
        root.get(f"{LETTERS}?status__exact=open&reason__exact=exhausted")
    )


def test_the_audit_log(root: Client, books: Books) -> None:
    record = failed(books)
    act(root, JOBS, "retry_jobs", [record], confirm="yes", reason="partner is back")
    url = "/admin/wellos_jobs/auditentry/"
    shown = text(root.get(url))
    for part in (
        "failed",
        "retried",
        "root",
        "partner is back",
        "the partner is away",
        "127.0.0.1",
    ):
        assert part in shown
    assert "1 audit entry" in text(root.get(f"{url}?by=people"))
    assert "1 audit entry" in text(root.get(f"{url}?by=none"))
    assert "1 audit entry" in text(root.get(f"{url}?action=retried"))
    assert "retried" in text(root.get(operation_url(AuditEntry.objects.get(action="retried"))))


@pytest.mark.parametrize("url", LISTS)
def test_list_queries_are_constant(root: Client, books: Books, url: str) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connections["default"]) as captured:
            assert root.get(url).status_code == 200
        return len(captured)

    users = [User.objects.create_user(f"user{number}") for number in range(10)]
    failed(books, requested_by=users[0], organization="one")
    DeadLetter.objects.update(resolved_by=users[0])
    before = cost()
    for number in range(1, 10):
        failed(books, requested_by=users[number], organization=f"o{number}")
    DeadLetter.objects.update(resolved_by=users[5])
    assert cost() == before
    assert (
        before <= 7
    )  # session, user, count, rows, users of rows, counts of the filters, views; more with searches


def test_lists_do_not_query_redis(root: Client, books: Books, round_trips: Any) -> None:
    failed(books)
    with round_trips.counting() as trips:
        for url in LISTS:
            root.get(url)
    assert trips == []


# --- organizations --------------------------------------------------------------------------------

asked: list[str] = []


def resolve(organization_id: str) -> dict[str, str]:
    asked.append(organization_id)
    if organization_id == "broken":
        raise LookupError(organization_id)
    url = (
        "javascript:alert(1)" if organization_id == "evil" else f"/organizations/{organization_id}/"
    )
    return {"label": f"The {organization_id} <company>", "url": url, "time_zone": "UTC"}


def test_organizations_are_resolved_once_per_page(root: Client, settings: Any) -> None:
    settings.WELLOS_JOBS = {"ORGANIZATION_RESOLVER": "tests.admin.test_all_pages.resolve"}
    for organization in ("acme", "acme", "acme", "globex", "evil", "broken", ""):
        JobRecord.objects.create(
            name="j", queue="default", organization_id=organization, created_at=timezone.now()
        )
    asked.clear()
    page = root.get(JOBS).content.decode()
    assert sorted(asked) == ["acme", "broken", "evil", "globex"]
    assert page.count('<a href="/organizations/acme/">The acme &lt;company&gt;</a>') == 3
    assert "javascript:" not in page
    assert "The evil &lt;company&gt;" in page
    record = JobRecord.objects.filter(organization_id="globex").get()
    assert '<a href="/organizations/globex/">' in root.get(operation_url(record)).content.decode()


# --- read-only ------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", LISTS)
def test_rows_are_read_only_for_superusers(root: Client, books: Books, url: str) -> None:
    failed(books)
    model = dict(zip(LISTS, (JobRecord, DeadLetter, JobAttempt, AuditEntry), strict=True))[url]
    row = model._default_manager.get()
    assert root.get(f"{url}add/").status_code == 403
    assert root.get(f"{url}{row.pk}/delete/").status_code == 403
    assert root.post(f"{url}{row.pk}/change/", {"state": "completed"}).status_code in {400, 403}
    page = root.get(f"{url}{row.pk}/change/").content.decode()
    assert 'name="_save"' not in page
    assert not re.search(
        r'<(?:input|textarea|select)(?![^>]*type="(?:hidden|submit|search)")', page
    )
    assert act(root, url, "delete_selected", [row], post="yes").status_code == 200
    assert model._default_manager.count() == 1


@pytest.mark.parametrize("url", [*LISTS, QUEUES, f"{QUEUES}stats/"])
def test_pages_need_their_view_permission(url: str) -> None:
    assert browser().get(url).status_code == 403
    anonymous = Client().get(url)
    assert (anonymous.status_code, anonymous["Location"].split("?")[0]) == (302, "/admin/login/")


# --- actions --------------------------------------------------------------------------------------


def test_an_action_shows_its_effects_first(root: Client, books: Books) -> None:
    rows = [
        failed(books),
        failed(books),
        jobs.noop.using(delay=60).enqueue().record(),
        jobs.noop.enqueue().record(),
    ]
    books.fold()
    response = act(root, JOBS, "retry_jobs", rows)
    shown = text(response)
    for part in (
        "2 failed jobs are retried",
        "1 delayed job is run now",
        "1 waiting job is left unchanged",
        "Reason",
        str(rows[0]),
    ):
        assert part in shown
    assert JobRecord.objects.filter(state="failed").count() == 2
    assert AuditEntry.objects.exclude(action="failed").count() == 0


def test_retry_after_confirmation(root: Client, books: Books) -> None:
    rows = [
        failed(books),
        jobs.noop.using(delay=60).enqueue().record(),
        jobs.noop.enqueue().record(),
    ]
    books.fold()
    response = act(root, JOBS, "retry_jobs", rows, confirm="yes", reason="partner is back")
    assert messages(response) == [
        "2 jobs retried",
        f"{rows[2]} cannot be retried: it is waiting, and only failed and delayed jobs can",
    ]
    entries = AuditEntry.objects.filter(action="retried")
    assert {(entry.actor_name, entry.reason, entry.address) for entry in entries} == {
        ("root", "partner is back", "127.0.0.1")
    }
    work()
    books.fold()
    assert JobRecord.objects.filter(replays=1, state="failed").count() == 1


def test_an_action_requires_a_reason(root: Client, books: Books) -> None:
    record = failed(books)
    for reason in ("", "   "):
        response = act(root, JOBS, "retry_jobs", [record], confirm="yes", reason=reason)
        assert "This field is required." in text(response)
    record.refresh_from_db()
    assert record.state == JobState.FAILED


def test_an_action_on_all_matching_rows(root: Client, books: Books) -> None:
    """More than a page of rows, chosen by a filter: the page carries one id and the wish for
    all."""
    jobs.fail.enqueue_bulk([{}] * 60)
    work()
    kept = jobs.fail.using(queue="email").enqueue().record()
    work()
    books.fold()
    url = f"{JOBS}?queue=default"
    first = JobRecord.objects.filter(queue="default").first()
    response = act(root, url, "retry_jobs", [first], select_across="1")
    assert "60 failed jobs are retried" in text(response)
    assert "and 40 more" in text(response)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', response.content.decode()))
    assert fields["select_across"] == "1"
    assert response.content.decode().count('name="_selected_action"') == 1
    response = root.post(url, {**fields, "reason": "all"}, follow=True)
    assert messages(response) == ["60 jobs retried"]
    kept.refresh_from_db()
    assert kept.state == JobState.FAILED


def test_cancel_after_confirmation(root: Client, books: Books) -> None:
    waiting, done = jobs.noop.using(queue="email").enqueue(), jobs.noop.enqueue()
    work("default")
    books.fold()
    rows = [waiting.record(), done.record()]
    shown = text(act(root, JOBS, "cancel_jobs", rows))
    assert "1 job that has not started is canceled" in shown
    assert "1 completed job is left unchanged" in shown
    response = act(root, JOBS, "cancel_jobs", rows, confirm="yes", reason="not needed")
    assert messages(response)[0] == "1 job canceled"
    assert "cannot be canceled: it is completed already" in messages(response)[1]
    assert books.row(waiting).state == JobState.CANCELED


def test_no_button_if_the_action_does_not_apply(root: Client, books: Books) -> None:
    handle = jobs.noop.enqueue()
    work()
    response = act(root, JOBS, "cancel_jobs", [books.row(handle)])
    assert "The action does not apply to any selected row." in text(response)
    assert b'name="confirm"' not in response.content


def test_cancel_while_redis_is_down(root: Client, books: Books, use_redis: UseRedis) -> None:
    handle = jobs.noop.enqueue()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    response = act(root, JOBS, "cancel_jobs", [handle.record()], confirm="yes", reason="x")
    assert "Redis is unavailable" in messages(response)[0]
    assert AuditEntry.objects.count() == 0


def test_replay_and_discard_of_dead_letters(root: Client, books: Books) -> None:
    for _ in range(3):
        failed(books)
    first, second, third = DeadLetter.objects.order_by("pk")
    assert "2 jobs are requeued" in text(act(root, LETTERS, "replay_dead_letters", [first, second]))
    response = act(
        root, LETTERS, "replay_dead_letters", [first, second], confirm="yes", reason="mended"
    )
    assert messages(response) == ["2 dead letters replayed"]
    shown = text(act(root, LETTERS, "discard_dead_letters", [first, third]))
    assert "1 dead letter is closed; its job stays failed" in shown
    assert "1 is already replayed" in shown
    response = act(
        root, LETTERS, "discard_dead_letters", [first, third], confirm="yes", reason="gone"
    )
    assert messages(response) == [
        "1 dead letter discarded",
        f"Dead letter {first.pk} is replayed already",
    ]
    statuses = DeadLetter.objects.order_by("pk").values_list("status", flat=True)
    assert list(statuses) == [
        DeadLetterStatus.REPLAYED,
        DeadLetterStatus.REPLAYED,
        DeadLetterStatus.DISCARDED,
    ]


def test_refusals_are_shown_up_to_a_limit(root: Client) -> None:
    rows = [
        JobRecord.objects.create(
            name="j", queue="default", state="completed", created_at=timezone.now()
        )
        for _ in range(9)
    ]
    response = act(root, JOBS, "cancel_jobs", rows, confirm="yes", reason="x")
    assert len(messages(response)) == 6
    assert messages(response)[-1] == "4 more rows were skipped"


@pytest.mark.parametrize(
    ("url", "action", "permission"),
    [
        (JOBS, "retry_jobs", "retry_job"),
        (JOBS, "cancel_jobs", "cancel_job"),
        (LETTERS, "replay_dead_letters", "replay_deadletter"),
        (LETTERS, "discard_dead_letters", "discard_deadletter"),
    ],
)
def test_each_action_has_its_own_permission(
    books: Books, url: str, action: str, permission: str
) -> None:
    record = failed(books) if action != "cancel_jobs" else jobs.noop.enqueue().record()
    row = record if url == JOBS else DeadLetter.objects.get()
    everything_else = {"retry_job", "cancel_job", "replay_deadletter", "discard_deadletter"} - {
        permission
    }
    looker = browser("view_jobrecord", "view_deadletter", *everything_else)
    assert action not in looker.get(url).content.decode()
    act(looker, url, action, [row], confirm="yes", reason="x")
    assert AuditEntry.objects.exclude(action="failed").count() == 0
    doer = browser("view_jobrecord", "view_deadletter", permission)
    assert action in doer.get(url).content.decode()
    act(doer, url, action, [row], confirm="yes", reason="x")
    assert AuditEntry.objects.exclude(action="failed").count() == 1


def test_actions_need_the_csrf_token(root: Client, books: Books) -> None:
    record = failed(books)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="root"))
    assert act(strict, JOBS, "retry_jobs", [record], confirm="yes", reason="x").status_code == 403


# --- queues ---------------------------------------------------------------------------------------


def test_the_stats_are_json(root: Client, settings: Any) -> None:
    jobs.noop.using(queue="email").enqueue()
    response = root.get(f"{QUEUES}stats/")
    assert response["Content-Type"] == "application/json"
    stats = {queue["name"]: queue for queue in response.json()}
    assert list(stats) == list(settings.RQ_QUEUES)
    assert {"name", "waiting", "active", "completed", "failed", "delayed", "total"} <= stats[
        "email"
    ].keys()
    assert (stats["email"]["waiting"], stats["email"]["total"]) == (1, 1)
    assert "no-store" in response["Cache-Control"]


def test_the_names_of_the_queue_pages() -> None:
    assert reverse("admin:wellos_jobs_queues") == QUEUES
    assert reverse("admin:wellos_jobs_queues_stats") == f"{QUEUES}stats/"


def test_the_queue_page_is_linked(root: Client) -> None:
    for url in ("/admin/", "/admin/wellos_jobs/", JOBS, LETTERS):
        assert f'href="{QUEUES}"' in root.get(url).content.decode(), url
    assert f'href="{QUEUES}"' not in browser("view_jobrecord").get(JOBS).content.decode()


# --- another site, Content-Security-Policy --------------------------------------------------------

own_site = AdminSite("backoffice")
own_site.register(JobRecord, admin.JobRecordAdmin)
own_site.register(JobAttempt, admin.JobAttemptAdmin)
own_site.register(DeadLetter, admin.DeadLetterAdmin)
own_site.register(AuditEntry, admin.AuditEntryAdmin)
own_site.register(models.Queues, admin.QueuesAdmin)
urlpatterns = [
    path("backoffice/", own_site.urls),
    path("admin/", default_site.urls),
    path("jobs/", include("wellos_jobs.urls")),
]


@pytest.mark.urls("tests.admin.test_all_pages")
def test_on_a_custom_admin_site(root: Client, books: Books) -> None:
    record = failed(books)
    letter = DeadLetter.objects.get()
    pages = [
        url.replace("/admin/", "/backoffice/")
        for url in (*LISTS, QUEUES, operation_url(record), operation_url(letter))
    ]
    for url in ("/backoffice/", *pages):
        page = root.get(url)
        assert page.status_code == 200
        assert 'href="/admin/' not in page.content.decode(), url
        assert 'action="/admin/' not in page.content.decode(), url
    response = act(root, pages[0], "retry_jobs", [record])
    assert 'href="/admin/' not in response.content.decode()


@pytest.mark.urls("tests.support.small_site")
def test_a_site_with_jobs_only(root: Client, books: Books) -> None:
    record = failed(books)
    for url in (
        "/small/",
        "/small/wellos_jobs/jobrecord/",
        f"/small/wellos_jobs/jobrecord/{record.pk}/change/",
    ):
        assert root.get(url).status_code == 200


def test_no_inline_script_or_style(root: Client, books: Books) -> None:
    record = failed(books)
    letter = DeadLetter.objects.get()
    pages = [
        root.get(url) for url in (*LISTS, QUEUES, operation_url(record), operation_url(letter))
    ]
    pages.append(act(root, JOBS, "retry_jobs", [record]))
    for page in pages:
        content = page.content.decode()
        assert not re.search(r"<style|\sstyle=|\son\w+=", content)
        assert not re.search(
            r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")[^>]*>", content
        )
        assert 'href="/static/wellos_jobs/admin.css"' in content
        assert not re.search(r'(?:src|href)="(?:https?:)?//', content)


def test_texts_are_escaped(root: Client, books: Books) -> None:
    evil = "<script>alert(1)</script>"
    handle = jobs.fail.using(organization="<i>x</i>").enqueue(message=evil)
    work()
    record = books.row(handle)
    letter = DeadLetter.objects.get()
    act(root, JOBS, "cancel_jobs", [record])
    DeadLetter.objects.update(note=evil)
    AuditEntry.objects.update(reason=evil, actor_name=evil)
    for url in (
        *LISTS,
        operation_url(record),
        operation_url(letter),
        operation_url(AuditEntry.objects.get()),
    ):
        content = root.get(url).content.decode()
        assert evil not in content
        assert "<i>x</i>" not in content
