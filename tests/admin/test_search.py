"""The search window: words in the newest rows; ids and indexed terms in all rows."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from typing import Any
from urllib.parse import parse_qs

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs.admin.jobs import search
from wellos_jobs.admin.ui import search_window
from wellos_jobs.definitions import ids
from wellos_jobs.models import AuditEntry, DeadLetter, JobAttempt, JobRecord, SavedView

from .test_job_list import names, record
from .test_overview import client_of, text

JOBS = "/admin/wellos_jobs/jobrecord/"
LETTERS = "/admin/wellos_jobs/deadletter/"
ATTEMPTS = "/admin/wellos_jobs/jobattempt/"
AUDIT = "/admin/wellos_jobs/auditentry/"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def root() -> Client:
    return client_of(User.objects.create_superuser("root"))


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit text searches to five rows, or two indexed ones."""
    monkeypatch.setattr(search_window, "MAX_ROWS", 5)
    monkeypatch.setattr(search_window, "SMALL_RESULT", 2)


def ten_jobs(**values: Any) -> list[JobRecord]:
    """Jobs that were created minute by minute, oldest first: old-0, ..., old-4, new-5, ...,
    new-9."""
    now = timezone.now()
    return [
        record(
            f"{'old' if n < 5 else 'new'}-{n}",
            created_at=now - dt.timedelta(minutes=10 - n),
            **values,
        )
        for n in range(10)
    ]


def link(response: Any, label: str) -> str:
    """The address behind a link of the note about where words were looked for; '' if there is
    none."""
    found = re.search(rf'<a href="([^"]*)">{label}</a>', response.content.decode())
    return found[1].replace("&amp;", "&") if found else ""


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["old", "name:old", "error:broken name:old", "data.n:1 name:old"])
def test_words_are_searched_in_the_newest_jobs(root: Client, typed: str) -> None:
    ten_jobs(error="broken", data={"n": 1})
    found = root.get(JOBS, {"q": typed})
    assert names(found) == []
    assert "Only the newest 5 rows were searched, back to " in text(found)
    before = root.get(JOBS + link(found, "Search older rows"))
    assert names(before) == ["old-0", "old-1", "old-2", "old-3", "old-4"]
    assert link(before, "Search older rows") == "", "there are no older ones"
    assert "Only rows before " in text(before)
    assert names(root.get(JOBS + link(before, "Search the newest rows"))) == []


def test_stepping_back(root: Client) -> None:
    ten_jobs()
    seen, url = [], f"{JOBS}?q=-"
    while url != JOBS:
        page = root.get(url)
        seen += names(page)
        url = JOBS + link(page, "Search older rows")
    assert sorted(seen) == sorted(JobRecord.objects.values_list("name", flat=True)), "each once"


def test_no_jobs_are_lost_between_steps(root: Client) -> None:
    now = timezone.now()
    for n in range(9):
        record(f"n{n}", created_at=now)
    assert len(names(root.get(JOBS, {"q": "n"}))) == 9


def test_no_note_if_all_rows_are_searched(root: Client) -> None:
    for n in range(5):
        record(f"n{n}")
    assert "were searched" not in text(root.get(JOBS, {"q": "n"}))
    ten_jobs()
    for query in ("", "?state__exact=waiting", "?q=state:waiting", "?q=queue:default"):
        assert "were searched" not in text(root.get(JOBS + query))


@pytest.mark.parametrize(
    "query", ["q=old+queue:rare", "queue=rare&q=old", "q=old+org:acme", "q=old&organization=acme"]
)
def test_few_indexed_rows_are_all_searched(root: Client, query: str) -> None:
    ten_jobs()
    JobRecord.objects.filter(name__in=["old-0", "old-1"]).update(
        queue="rare", organization_id="acme"
    )
    page = root.get(f"{JOBS}?{query}")
    assert names(page) == ["old-0", "old-1"]
    assert "were searched" not in text(page)


def test_many_indexed_rows_are_limited(root: Client) -> None:
    ten_jobs()
    page = root.get(f"{JOBS}?queue=default&q=e")
    assert names(page) == ["new-5", "new-6", "new-7", "new-8", "new-9"]
    assert "Only the newest" in text(page)


def test_filter_counts_are_lower_bounds(root: Client) -> None:
    ten_jobs()
    JobRecord.objects.filter(name__in=["old-0", "new-9"]).update(queue="email")
    page = text(root.get(f"{JOBS}?queue=email&q=-"))
    assert "2 jobs" in page
    assert "email (1+)" in page
    assert "default (4+)" in page


# --- ids ------------------------------------------------------------------------------------------


def test_ids_are_found_at_any_age(root: Client) -> None:
    oldest = ten_jobs()[0]
    derived = record(
        "derived", pk=ids.derived_id("id", "x"), created_at=timezone.now() - dt.timedelta(days=9)
    )
    foreign = record("foreign", rq_id="from-rq", created_at=timezone.now() - dt.timedelta(days=9))
    JobRecord.objects.filter(pk=oldest.pk).delete()
    oldest.pk = uuid.UUID("01890000-1111-7222-8333-444455556666")
    oldest.save(force_insert=True)
    whole = str(oldest.pk)
    for typed in (
        whole,
        whole[:8],
        whole[:9],
        whole[:13],
        whole[:17],
        whole[:30],
        whole.replace("-", "")[:20],
    ):
        for prefix in ("", "id:"):
            page = root.get(JOBS, {"q": prefix + typed.upper()})
            assert names(page) == ["old-0"], typed
            assert "were searched" not in text(page)
    assert names(root.get(JOBS, {"q": str(derived.pk)[:15]})) == ["derived"]
    assert names(root.get(JOBS, {"q": foreign.rq_id})) == ["foreign"]
    assert names(root.get(JOBS, {"q": f"{whole[:13]} name:new"})) == []
    assert names(root.get(JOBS, {"q": f"id:{whole[:7]}"})) == []


def test_words_that_look_like_an_id(root: Client) -> None:
    record("one", error="order 20261124-1 is unknown")
    record("two", error="deadbeef")
    assert names(root.get(JOBS, {"q": "20261124-1"})) == ["one"]
    assert names(root.get(JOBS, {"q": "deadbeef"})) == ["two"]


def test_id_prefix_ranges() -> None:
    first, last = (
        uuid.UUID("01890000-1111-7222-8000-000000000000"),
        uuid.UUID("01890000-1111-7222-bfff-ffffffffffff"),
    )
    assert search._begun("01890000-1111-7222") == {(first, last)}
    assert len(search._begun("01890000-1111")) == len(ids.SPANS)
    for text_ in (
        "0189000",
        "01890000-1111-7222-8333-4444555566667",
        "01890000-11x",
        "g1890000",
        "-01890000",
    ):
        assert search._begun(text_) == set()


# --- the address ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "7"])
@pytest.mark.parametrize("name", [search_window.SINCE, search_window.UNTIL])
def test_an_invalid_position(root: Client, name: str, place: str) -> None:
    record()
    assert root.get(f"{JOBS}?q=send&{name}={place}")["Location"].endswith("?e=1")


def test_saved_views_have_no_position(root: Client) -> None:
    place = timezone.now().isoformat().replace("+", "%2B")
    sent = {"action": "save", "name": "old ones", "query": f"q=old&{search_window.UNTIL}={place}"}
    assert root.post(f"{JOBS}views/", sent).status_code == 302
    assert SavedView.objects.get().query == "q=old"


def test_pages_stay_in_the_window(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wellos_jobs.admin.jobs.list.JobRecordAdmin.list_per_page", 2)
    ten_jobs()
    before = link(root.get(f"{JOBS}?q=-"), "Search older rows")
    page = root.get(JOBS + before)
    assert len(names(page)) == 2
    assert search_window.UNTIL in parse_qs(page.context["cl"].get_query_string({"p": 2})[1:])
    assert search_window.UNTIL in parse_qs(before[1:])


# --- other lists ----------------------------------------------------------------------------------


def ten_dead_letters() -> list[DeadLetter]:
    """Dead letters with an attempt and an audit entry each, one per minute, oldest first."""
    made = []
    for n, job in enumerate(ten_jobs(state="failed", organization_id="acme")):
        error = {"error_class": "ValueError", "message": f"{job.name} is away"}
        JobAttempt.objects.create(
            job=job, number=1, outcome="failed", ended_at=job.created_at, **error
        )
        AuditEntry.objects.create(
            at=job.created_at,
            action="failed",
            target_type="job",
            target_id=str(job.pk),
            reason=f"{job.name} ended",
        )
        made.append(
            DeadLetter.objects.create(
                job=job,
                name=job.name,
                reason="exhausted",
                fingerprint=f"{n:016x}",
                created_at=job.created_at,
                organization_id="acme",
                **error,
            )
        )
    return made


@pytest.mark.parametrize("url", [LETTERS, ATTEMPTS, AUDIT])
def test_each_list_searches_its_newest_rows(root: Client, url: str) -> None:
    oldest = ten_dead_letters()[0]

    def count(page: Any) -> int:
        assert page.status_code == 200
        return int(page.context["cl"].result_count)

    found = root.get(url, {"q": "old"})
    assert count(found) == 0
    assert "Only the newest 5 rows were searched, back to " in text(found)
    assert count(root.get(url + link(found, "Search older rows"))) == 5
    assert count(root.get(url, {"q": str(oldest.job_id)})) == 1
    assert "were searched" not in text(root.get(url, {"q": str(oldest.job_id)}))


def test_fingerprints_are_found_at_any_age(root: Client) -> None:
    oldest = ten_dead_letters()[0]
    page = root.get(LETTERS, {"q": oldest.fingerprint.upper()})
    assert [letter.pk for letter in page.context["cl"].result_list] == [oldest.pk]


def test_the_audit_export_searches_all_rows(root: Client) -> None:
    ten_dead_letters()
    lines = b"".join(root.get(f"{AUDIT}export/?q=old")).decode().splitlines()  # type: ignore[arg-type]
    assert len(lines) == 1 + 5
    until = timezone.now() - dt.timedelta(days=1)
    query = f"q=old&{search_window.UNTIL}={until.isoformat().replace('+', '%2B')}"
    assert len(b"".join(root.get(f"{AUDIT}export/?{query}")).decode().splitlines()) == 1 + 5  # type: ignore[arg-type]


# --- cost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"{JOBS}?q={typed}"
            for typed in ("old", "name:old", "data.n:1", "old+queue:default", "old+org:acme")
        ),
        f"{JOBS}?q=old&state__exact=failed",
        *(f"{url}?q=old" for url in (LETTERS, ATTEMPTS, AUDIT)),
    ],
)
def test_queries_of_a_search_are_constant(root: Client, url: str, round_trips: Any) -> None:
    def cost() -> int:
        with (
            round_trips.counting() as trips,
            CaptureQueriesContext(connections["default"]) as captured,
        ):
            assert root.get(url).status_code == 200
        assert trips == []
        return len(captured)

    record("old", state="failed", organization_id="acme", data={"n": 1})
    few = cost()
    ten_dead_letters()
    JobRecord.objects.create(name="old", queue="default", created_at=timezone.now(), state="failed")
    assert cost() == few
