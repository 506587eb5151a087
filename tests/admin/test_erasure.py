"""The page that erases a person: who may, what it shows before, what it does, and what it keeps to
itself."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.views.debug import get_exception_reporter_filter

from wellos_jobs.admin.audit import erasure as page_module
from wellos_jobs.models import AuditEntry, JobRecord, SavedView
from wellos_jobs.operations import erasure

from ..support.browser import axe, login, narrow
from ..support.users import client_of, staff, text

ERASE = "/admin/wellos_jobs/auditentry/erase/"
MAIL, NAME = "ada@example.org", "Ada Lovelace"

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def ada() -> User:
    """A person with a finished and an open job, and two audit entries."""
    user = User.objects.create_user("ada.l")
    job("completed", {"to": MAIL, "name": NAME}, requested_by=user)
    job("waiting", {"to": MAIL})
    for _ in range(2):
        AuditEntry.objects.create(
            at=timezone.now(),
            action="canceled",
            target_type="job",
            target_id="1",
            actor=user,
            actor_name=user.username,
        )
    return user


def job(state: str, data: Any, **values: Any) -> JobRecord:
    return JobRecord.objects.create(
        name="mail", state=state, data=data, created_at=timezone.now(), **values
    )


def post(client: Client, action: str, **values: str) -> Any:
    return client.post(ERASE, {"action": action, "reason": "request of 29 November", **values})


def everything(user: User) -> dict[str, str]:
    return {"user_id": str(user.pk), "texts": f"{MAIL}\r\n{NAME}\r\n"}


def rows() -> list[Any]:
    return [list(table.rows("default").values()) for table in erasure.TABLES]


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize("permissions", [(), ("view_auditentry", "view_jobrecord", "cancel_job")])
def test_it_needs_its_permission(ada: User, permissions: tuple[str, ...]) -> None:
    client = client_of(staff(*permissions))
    assert client.get(ERASE).status_code == 403
    for action in ("find", "erase"):
        assert post(client, action, **everything(ada)).status_code == 403
    assert not AuditEntry.objects.filter(target_type="person").exists()


def test_the_navigation_leads_there_who_may(root: Client) -> None:
    jobs = reverse("admin:wellos_jobs_jobrecord_changelist")
    assert f'href="{ERASE}"' in root.get(jobs).content.decode()
    assert f'href="{ERASE}"' not in client_of(staff("view_jobrecord")).get(jobs).content.decode()
    assert client_of(staff("erase_person")).get(ERASE).status_code == 200


def test_staff_limited_to_organizations_erase_nobody(ada: User, settings: Any) -> None:
    """A person stands in the rows of any organization."""
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.support.users.only_acme",
    }
    client = client_of(staff("erase_person", "view_auditentry"))
    before = rows()
    for response in (
        client.get(ERASE),
        post(client, "find", **everything(ada)),
        post(client, "erase", **everything(ada)),
    ):
        shown = text(response)
        assert "You may see only some organizations" in shown
        assert "Kind" not in shown
    assert rows() == before


def test_without_view_jobrecord_there_are_no_links_to_jobs(ada: User) -> None:
    client = client_of(staff("erase_person"))
    shown = post(client, "find", **everything(ada)).content.decode()
    waiting = JobRecord.objects.get(state="waiting")
    assert str(waiting.pk) in shown
    assert f"jobrecord/{waiting.pk}" not in shown


# --- what it does ---------------------------------------------------------------------------------


def test_first_it_shows_what_would_be_erased(root: Client, ada: User) -> None:
    before = rows()
    response = post(root, "find", **everything(ada))
    shown = text(response)
    assert "This will be erased" in shown
    assert "Jobs 1" in shown and "Audit entries 2" in shown
    waiting = JobRecord.objects.get(state="waiting")
    assert f"/jobrecord/{waiting.pk}/change/" in response.content.decode()
    assert rows() == before


def test_then_it_erases(root: Client, ada: User) -> None:
    SavedView.objects.create(owner=ada, page="jobs", name="mine")
    response = post(root, "erase", **everything(ada))
    assert "Jobs 1" in text(response) and "Saved views 1" in text(response)
    assert "Open jobs keep their data" in text(response)

    done = JobRecord.objects.get(state="completed")
    assert (done.requested_by, done.data) == (None, {"to": "(erased)", "name": "(erased)"})
    assert JobRecord.objects.get(state="waiting").data == {"to": MAIL}
    began, ended = AuditEntry.objects.filter(target_type="person").order_by("pk")
    assert (began.action, ended.action) == ("began erasing", "erased")
    for entry in (began, ended):
        assert (entry.actor_name, entry.reason) == ("root", "request of 29 November")
        assert entry.address == "127.0.0.1"

    JobRecord.objects.filter(state="waiting").update(state="canceled")
    assert "Jobs 1" in text(post(root, "erase", **everything(ada)))

    nothing = post(root, "find", **everything(ada))
    assert "Nothing was found" in text(nothing)
    assert "This will be erased" not in text(nothing)
    assert 'value="erase"' not in nothing.content.decode(), "there is nothing to confirm"


def test_a_deleted_account_is_found_by_name(root: Client, ada: User) -> None:
    ada.delete()
    assert "Audit entries 2" in text(post(root, "find", username="ada.l"))


def test_all_databases_with_jobs(root: Client, ada: User, settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_DATABASES": ["default", "other"]}
    for state in ("failed", "delayed"):
        JobRecord.objects.using("other").create(
            name="mail", state=state, data={"to": MAIL}, created_at=timezone.now()
        )
    response = post(root, "erase", **everything(ada))
    assert "other Jobs 1" in text(response)
    kept = JobRecord.objects.using("other").get(state="delayed")
    assert f"other: {kept.pk}" in text(response)
    assert JobRecord.objects.using("other").get(state="failed").data == {"to": "(erased)"}
    assert AuditEntry.objects.using("other").filter(action="erased").count() == 1


def test_a_database_that_goes_away_is_named(
    root: Client, ada: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_DATABASES": ["default", "other"]}
    erase = erasure._erase
    JobRecord.objects.using("other").create(
        name="mail", state="failed", data={"to": MAIL}, created_at=timezone.now()
    )

    def away(database: str, *given: Any) -> Any:
        if database == "other":
            raise OperationalError("gone")
        return erase(database, *given)

    monkeypatch.setattr(erasure, "_erase", away)
    shown = text(post(root, "erase", **everything(ada)))
    assert "The database other is unavailable" in shown
    assert "Jobs 1" in shown, "what was erased before is shown"


def test_more_rows_than_a_page_can_read(
    root: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "MAX_ROWS", 3)
    before = rows()
    for action in ("find", "erase"):
        shown = text(post(root, action, **everything(ada)))
        assert "More than 3 rows" in shown and "jobs_erase" in shown
    assert rows() == before
    assert "Audit entries 2" in text(post(root, "find", user_id=str(ada.pk))), "few rows of hers"


def test_queries_do_not_grow_with_the_rows_of_a_chunk(root: Client, ada: User) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            post(root, "find", **everything(ada))
        return len(queries)

    cost()
    few = cost()
    for _ in range(30):
        job("completed", {"to": MAIL}, requested_by=ada)
        job("waiting", {"to": MAIL})
    assert cost() == few


# --- odd input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({}, "Give a user, or the texts to erase"),
        ({"texts": "abc"}, "“abc” is too short"),
        ({"texts": " \r\n\r\n"}, "Give a user, or the texts to erase"),
        ({"texts": "\r\n".join(f"text {n}" for n in range(21))}, "At most 20 lines"),
        ({"texts": "x" * 5_000}, "at most 4000 characters"),
        ({"texts": MAIL, "reason": ""}, "This field is required"),
        ({"texts": MAIL, "reason": f"for {MAIL.upper()}"}, "The reason names the person"),
        ({"username": "ada.l", "reason": "ada.l asked"}, "The reason names the person"),
        ({"user_id": "x"}, "is not the id of a user"),
        ({"user_id": "9" * 60}, "is not the id of a user"),
        ({"user_id": "a\x00b"}, "Null characters are not allowed"),
        ({"username": "a\x00b"}, "Null characters are not allowed"),
        ({"user_id": "0", "username": "ada.l"}, "is that of user"),
    ],
)
def test_a_form_says_what_is_wrong(
    root: Client, ada: User, given: dict[str, str], answer: str
) -> None:
    for action in ("find", "erase"):
        assert answer in text(post(root, action, **given))
    assert not AuditEntry.objects.filter(target_type="person").exists()


def test_invalid_requests_are_refused(root: Client) -> None:
    assert post(root, "burn").status_code == 400
    assert root.put(ERASE).status_code == 405
    shown = text(root.get(f"{ERASE}?texts={MAIL}&action=erase&user_id=1"))
    assert "This will be erased" not in shown and MAIL not in shown


def test_the_texts_are_kept_to_the_page(
    root: Client, ada: User, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the audit log, the session, nor the report of an error has them."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, logger="django.db.backends")
    done = post(root, "erase", **everything(ada))
    assert done["Cache-Control"].count("no-store") == 1
    assert not re.search(f"{MAIL}|{NAME}", caplog.text)
    assert not re.search(f"{MAIL}|{NAME}", str(dict(root.session)))
    assert list(done.context["messages"]) == []
    entries = AuditEntry.objects.filter(target_type="person").values()
    assert not re.search(f"{MAIL}|{NAME}|ada", str(list(entries)))

    def fail(*_given: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(erasure, "_erase", fail)
    root.raise_request_exception = False
    JobRecord.objects.update(state="completed")
    failed = post(root, "erase", **everything(ada))
    assert failed.status_code == 500
    report = get_exception_reporter_filter(failed.wsgi_request)
    assert MAIL not in str(report.get_post_parameters(failed.wsgi_request))


@pytest.mark.browser
def test_erasing_in_the_browser(page: Any, ada: User) -> None:
    """The lines of the texts survive the way through the confirmation."""
    login(page, User.objects.create_superuser("root"))
    page.goto("/admin/wellos_jobs/jobrecord/")
    page.get_by_role("navigation", name="Background jobs").get_by_text("Erase a person").click()
    axe(page)
    narrow(page)
    page.get_by_label("Texts to erase").fill(f"{MAIL}\n{NAME}")
    page.get_by_label("Reason").fill("request of 29 November")
    page.get_by_role("button", name="Find").click()
    page.get_by_text("This will be erased").wait_for()
    axe(page)
    narrow(page)
    page.get_by_role("button", name="Erase").click()
    page.get_by_text("Open jobs keep their data").wait_for()
    axe(page)
    assert JobRecord.objects.get(state="completed").data == {"to": "(erased)", "name": "(erased)"}
