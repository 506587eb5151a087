"""The list of jobs: search, filters, counts and queries."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import Batch, payload
from wellos_jobs.admin.jobs import search
from wellos_jobs.admin.ui import paginator
from wellos_jobs.definitions.registry import all_jobs
from wellos_jobs.models import JobRecord
from wellos_jobs.models import Schedule as ScheduleRow

from ..support.browser import axe, login, narrow
from ..support.users import client_of, staff, text

JOBS = "/admin/wellos_jobs/jobrecord/"

pytestmark = pytest.mark.django_db(transaction=True)


def record(name: str = "send", data: dict[str, Any] | None = None, **values: Any) -> JobRecord:
    defaults = {"queue": "default", "created_at": timezone.now()}
    return JobRecord.objects.create(
        name=name, data=payload.encode(data or {}), **(defaults | values)
    )


def names(response: Any) -> list[str]:
    """The names of the jobs that a list shows."""
    assert response.status_code == 200
    return sorted(job.name for job in response.context["cl"].result_list)


# --- search ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "title"), [("jobrecord", "Jobs"), ("schedule", "Schedules"), ("batch", "Batches")]
)
def test_list_titles(root: Client, model: str, title: str) -> None:
    page = root.get(f"/admin/wellos_jobs/{model}/").content.decode()
    assert f"<h1>{title}</h1>" in page
    assert f"<title>{title} | Django site admin</title>" in page


def test_parsing() -> None:
    term = search.Term
    assert search.parse(
        'no route state:failed to data.a.b:"Ann Lee" "the rest" http://x data:1 NAME:y'
    ) == [
        term("", "no route to http://x data:1 NAME:y"),
        term("state", "failed"),
        term("data.a.b", "Ann Lee", is_quoted=True),
        term("", "the rest", is_quoted=True),
    ]
    assert search.parse("  ") == []


def test_prefixes(root: Client) -> None:
    ada = User.objects.create_user("ada.lovelace")
    first = record(
        "one", state="failed", error="no route to host", organization_id="acme", requested_by=ada
    )
    second = record(
        "two", queue="email", organization_id="acme-west", rq_id="f-1", error="two routes"
    )
    for typed, wanted in (
        ("name:on", ["one"]),
        ("queue:email", ["two"]),
        ("org:acme", ["one"]),
        ("state:FAILED", ["one"]),
        ('error:"route to"', ["one"]),
        ("error:route", ["one", "two"]),
        (f"id:{first.pk}", ["one"]),
        (f"id:{second.pk.hex}", ["two"]),
        ("id:f-1", ["two"]),
        ("id:f", []),
        ("by:lovelace", ["one"]),
        ("by:nobody", []),
        ("error:route queue:email", ["two"]),
        ("route to", ["one"]),
        ("acme state:waiting", ["two"]),
        ("name:one name:two", []),
    ):
        assert names(root.get(JOBS, {"q": typed})) == wanted, typed


def test_an_unknown_state(root: Client) -> None:
    record()
    response = root.get(JOBS, {"q": "state:broken"})
    assert names(response) == []
    states = "waiting, delayed, blocked, active, completed, failed, canceled"
    assert f"Unknown state “broken”; use one of {states}" in text(response)


ORDER = uuid.UUID("018f6b2e-0000-7000-8000-000000000001")


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("data.invoice_id:42", ["number", "text"]),
        ("data.invoice_id:4", []),
        ('data.customer.name:"Ann Lee"', ["nested"]),
        ("data.customer.name:Ann", []),
        ("data.lines.1.sku:B", ["nested"]),
        ("data.paid:true", ["nested"]),
        ("data.share:0.5", ["nested"]),
        (f"data.order:{ORDER}", ["tagged"]),
        ("data.price:9.90", ["tagged"]),
        ("data.due:2026-03-01", ["tagged"]),
        ("data.invoice_id:42 name:number", ["number"]),
        ('data.exact:"it\'s"', ["odd"]),
        ("data.contains__x:1", ["odd"]),
    ],
)
def test_data(root: Client, typed: str, wanted: list[str]) -> None:
    record("number", {"invoice_id": 42})
    record("text", {"invoice_id": "42"})
    record(
        "nested",
        {
            "customer": {"name": "Ann Lee"},
            "lines": [{"sku": "A"}, {"sku": "B"}],
            "paid": True,
            "share": 0.5,
        },
    )
    record("tagged", {"order": ORDER, "price": Decimal("9.90"), "due": dt.date(2026, 3, 1)})
    record("odd", {"exact": "it's", "contains__x": 1})
    assert names(root.get(JOBS, {"q": typed})) == wanted


def test_a_quoted_number_is_text(root: Client) -> None:
    record("number", {"invoice_id": 42})
    record("text", {"invoice_id": "42"})
    as_text = names(root.get(JOBS, {"q": 'data.invoice_id:"42"'}))
    assert as_text == (["number", "text"] if connections["default"].vendor == "mysql" else ["text"])


def test_encrypted_values_are_not_searched(root: Client) -> None:
    sealed = next(job for job in all_jobs() if job.sensitive)
    name = min(sealed.sensitive)
    JobRecord.objects.create(
        name=sealed.name,
        queue="default",
        created_at=timezone.now(),
        data=payload.encode({name: "s3cret"}, sensitive=frozenset({name})),
    )
    response = root.get(JOBS, {"q": f"data.{name}:s3cret"})
    assert names(response) == []
    assert f"Some jobs encrypt {name}, and encrypted values cannot be searched" in text(response)


def test_searching_data_needs_a_permission() -> None:
    record("secretive", {"customer": "Ann"})
    reader = client_of(staff("view_jobrecord"))
    response = reader.get(JOBS, {"q": "data.customer:Ann"})
    assert names(response) == []
    assert "You need the permission “view_payload” to search data" in text(response)
    assert names(
        client_of(staff("view_jobrecord", "view_payload")).get(JOBS, {"q": "data.customer:Ann"})
    ) == ["secretive"]


def test_search_is_limited_to_organizations(settings: Any) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.support.users.only_acme",
    }
    record("mine", {"n": 1}, organization_id="acme", error="away")
    record("other", {"n": 1}, organization_id="fjord", error="away")
    ann = client_of(staff("view_jobrecord", "view_payload"))
    for typed in (
        "data.n:1",
        "error:away",
        "away",
        "name:other name:o",
        "org:fjord",
        "",
        "state:waiting",
    ):
        assert "other" not in names(ann.get(JOBS, {"q": typed})), typed
    page = ann.get(JOBS)
    assert "waiting (1)" in text(page)


# --- filters --------------------------------------------------------------------------------------


def test_filters(root: Client) -> None:
    with Batch(name="import") as opened:
        pass
    batch = opened.id
    schedule = ScheduleRow.objects.create(
        name="nightly", job_name="test-noop", cron="0 2 * * *", time_zone="UTC"
    )
    now = timezone.now()
    record(
        "early",
        created_at=now - dt.timedelta(days=5),
        finished_at=now - dt.timedelta(days=4),
        state="completed",
    )
    record("loud", error="boom", priority=1, organization_id="acme")
    record("member", batch_id=batch, queue="email")
    record("timed", schedule=schedule)
    day = f"{timezone.localtime(now) - dt.timedelta(days=2):%Y-%m-%d}"
    for query, wanted in (
        ("state__exact=completed", ["early"]),
        ("queue=email", ["member"]),
        ("priority__exact=1", ["loud"]),
        ("priority__exact=x", []),
        ("failing=yes", ["loud"]),
        ("failing=no", ["early", "member", "timed"]),
        ("organization=acme", ["loud"]),
        (f"batch={batch}", ["member"]),
        (f"batch__exact={batch}", ["member"]),
        ("schedule=nightly", ["timed"]),
        (f"created_to={day}", ["early"]),
        (f"created_from={day}", ["loud", "member", "timed"]),
        (f"finished_from={day}", []),
        (f"finished_to={day}", ["early"]),
        ("failing=no&queue=default&state__exact=waiting", ["timed"]),
        ("name=loud", ["loud"]),
    ):
        assert names(root.get(f"{JOBS}?{query}")) == wanted, query
    assert root.get(f"{JOBS}?batch=no-id")["Location"].endswith("?e=1")


def test_filter_choices_show_counts(root: Client) -> None:
    record("a", state="failed", error="x")
    record("b", state="failed", queue="email")
    record("c", queue="email")
    shown = text(root.get(JOBS))
    for part in (
        "waiting (1)",
        "failed (2)",
        "completed (0)",
        "email (2)",
        "normal (3)",
        "has an error (1)",
    ):
        assert part in shown
    shown = text(root.get(f"{JOBS}?state__exact=failed"))
    for part in ("waiting (1)", "failed (2)", "email (1)", "default (1)"):
        assert part in shown
    assert "email (0)" in text(root.get(f"{JOBS}?q=name:a"))


def test_filter_counts_are_capped(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paginator, "MAX_COUNT", 60)
    for number in range(70):
        record(f"n{number}", state="failed" if number % 2 else "waiting", created_at=timezone.now())
    shown = text(root.get(JOBS))
    assert re.search(r"waiting \(\d\d\+\)", shown)
    assert "default (60+)" in shown
    assert "60+ jobs" in shown


def test_queries_are_constant(root: Client) -> None:
    def cost(query: str) -> int:
        with CaptureQueriesContext(connections["default"]) as captured:
            assert root.get(f"{JOBS}{query}").status_code == 200
        return len(captured)

    user = User.objects.create_user("ann")
    record(requested_by=user)
    queries = (
        "",
        "?state__exact=waiting",
        "?q=name:send",
        "?q=send",
        "?organization=&queue=default",
    )
    before = {query: cost(query) for query in queries}
    for number in range(60):
        record(requested_by=User.objects.create_user(f"user{number}"), organization_id=f"o{number}")
    assert {query: cost(query) for query in queries} == before
    assert (
        before[""] == 7
    )  # session, user, count, rows, users of the rows, counts of all filters, views


def test_only_indexed_columns_are_sortable(root: Client) -> None:
    record()
    page = root.get(JOBS).content.decode()
    assert len(re.findall(r'<th[^>]* class="[^"]*sortable', page)) == 1
    with CaptureQueriesContext(connections["default"]) as captured:
        root.get(f"{JOBS}?o=2")
    assert not [query for query in captured if re.search(r"ORDER BY [^,]*state", query["sql"])]


@pytest.mark.browser
def test_the_list_in_the_browser(page: Any) -> None:
    user = User.objects.create_superuser("root")
    record(
        "send-invoice", {"invoice_id": 42}, state="failed", error="no route", organization_id="acme"
    )
    record("import", state="active", progress=40)
    login(page, user)
    page.goto(JOBS)
    page.locator("#searchbar").fill("data.invoice_id:42")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="send-invoice").wait_for()
    assert page.locator("#result_list tbody tr").count() == 1
    page.get_by_role("link", name="failed (1)").click()
    page.get_by_text("By details").click()
    page.get_by_label("Organization").fill("acme")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="send-invoice").wait_for()
    assert "organization=acme" in page.url
    assert "state__exact=failed" in page.url
    axe(page, without=("label-title-only",))  # Django's own search field
    narrow(page)
