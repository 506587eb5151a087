"""Staff limited to organizations: what they see, find, count and change, also by guessed ids."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from wellos_jobs.models import AuditEntry, DeadLetter, JobAttempt, JobRecord
from wellos_jobs.states import JobState

from .. import jobs
from ..support.engine import Books, work

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = "/admin/wellos_jobs"


def of_acme(user: User) -> list[str] | None:
    return {"ann": ["acme"], "nobody": []}.get(user.username)


def everybody(_request: Any, _record: JobRecord) -> bool:
    return True


@pytest.fixture(autouse=True)
def border(settings: Any) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "NOTIFY_ADMINS": False,
        "ADMIN_ORGANIZATIONS": "tests.admin.test_organization_scope.of_acme",
    }


def staff(name: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="wellos_jobs"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def ann() -> Client:
    """Of acme only."""
    return staff("ann")


@pytest.fixture
def rows() -> dict[str, JobRecord]:
    """A failed job of each of two organizations, and one of none."""
    handles = {
        name: jobs.fail.using(max_attempts=1, organization=name).enqueue()
        for name in ("acme", "fjord", "")
    }
    work()
    Books().fold()
    return {name: JobRecord.objects.get(pk=handle.id) for name, handle in handles.items()}


@pytest.mark.parametrize("name", ["fjord", ""])
def test_the_status_of_another_organizations_job(
    ann: Client, rows: dict[str, JobRecord], name: str
) -> None:
    """Organization limits also apply outside the admin."""
    assert ann.get(f"/jobs/{rows['acme'].pk}/status").json()["data"] == {}
    for end in ("status", "events"):
        answer = ann.get(f"/jobs/{rows[name].pk}/{end}")
        assert (answer.status_code, answer.content) == (404, b"Job not found")


def test_another_organizations_job_is_not_canceled(ann: Client) -> None:
    handles = {name: jobs.noop.using(organization=name).enqueue() for name in ("acme", "fjord", "")}
    answers = {
        name: ann.post(f"/jobs/{handle.id}/cancel").status_code for name, handle in handles.items()
    }
    assert answers == {"acme": 200, "fjord": 404, "": 404}
    assert [handle.state for handle in handles.values()] == ["canceled", "waiting", "waiting"]


def test_the_payload_of_a_job_shown_by_a_hook(
    ann: Client, rows: dict[str, JobRecord], settings: Any
) -> None:
    """``CAN_VIEW_JOB`` may show a hidden job, but not its payload."""
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "CAN_VIEW_JOB": "tests.admin.test_organization_scope.everybody",
    }
    shown_status = ann.get(f"/jobs/{rows['fjord'].pk}/status").json()
    assert (shown_status["state"], shown_status["data"]) == ("failed", None)


def test_health_hides_details(ann: Client) -> None:
    assert "details" not in ann.get("/jobs/health/ready").json()
    assert "details" in staff("carl").get("/jobs/health/ready").json()


def shown(client: Client, url: str) -> list[str]:
    """Return the links to rows of a list."""
    page = client.get(url)
    assert page.status_code == 200
    return re.findall(r'href="[^"]*/([0-9a-f-]+)/change/[^"]*"', page.content.decode())


@pytest.mark.parametrize("query", ["", "?q=test-fail", "?state__exact=failed", "?queue=default"])
def test_the_list_of_jobs(ann: Client, rows: dict[str, JobRecord], query: str) -> None:
    assert set(shown(ann, f"{ROOT}/jobrecord/{query}")) == {str(rows["acme"].pk)}


@pytest.mark.parametrize("name", ["fjord", ""])
def test_search_for_another_organizations_id(
    ann: Client, rows: dict[str, JobRecord], name: str
) -> None:
    assert shown(ann, f"{ROOT}/jobrecord/?q={rows[name].pk}") == []
    assert shown(ann, f"{ROOT}/deadletter/?q={rows[name].pk}") == []


def test_dead_letters_and_attempts(ann: Client, rows: dict[str, JobRecord]) -> None:
    mine = {str(row.pk) for row in DeadLetter.objects.filter(job=rows["acme"])}
    assert (
        set(shown(ann, f"{ROOT}/deadletter/?status__exact=open")) - {str(rows["acme"].pk)} == mine
    )
    mine = {str(row.pk) for row in JobAttempt.objects.filter(job=rows["acme"])}
    assert set(shown(ann, f"{ROOT}/jobattempt/")) - {str(rows["acme"].pk)} == mine


def test_the_audit_log_is_hidden(ann: Client, rows: dict[str, JobRecord]) -> None:
    assert AuditEntry.objects.count() == 3
    assert shown(ann, f"{ROOT}/auditentry/") == []


def test_pages_of_guessed_ids(ann: Client, rows: dict[str, JobRecord]) -> None:
    letter = DeadLetter.objects.get(job=rows["fjord"])
    attempt = JobAttempt.objects.get(job=rows["fjord"])
    entry = AuditEntry.objects.first()
    assert entry is not None
    for url in (
        f"{ROOT}/jobrecord/{rows['fjord'].pk}/change/",
        f"{ROOT}/jobrecord/{rows[''].pk}/change/",
        f"{ROOT}/deadletter/{letter.pk}/change/",
        f"{ROOT}/jobattempt/{attempt.pk}/change/",
        f"{ROOT}/auditentry/{entry.pk}/change/",
    ):
        assert ann.get(url).status_code in {302, 404}, (
            url
        )  # 302: Django's own "perhaps it was deleted"
    assert ann.get(f"{ROOT}/jobrecord/{rows['acme'].pk}/change/").status_code == 200


@pytest.mark.parametrize("across", ["0", "1"])
def test_actions_reach_visible_rows_only(
    ann: Client, rows: dict[str, JobRecord], across: str
) -> None:
    response = ann.post(
        f"{ROOT}/jobrecord/",
        {
            "action": "retry_jobs",
            "select_across": across,
            "_selected_action": [str(row.pk) for row in rows.values()],
            "confirm": "1",
            "reason": "the partner is back",
        },
    )
    assert response.status_code == 302
    states = {name: JobRecord.objects.get(pk=row.pk).state for name, row in rows.items()}
    assert states == {"acme": JobState.WAITING, "fjord": JobState.FAILED, "": JobState.FAILED}


def test_no_organizations_means_no_rows(rows: dict[str, JobRecord]) -> None:
    assert shown(staff("nobody"), f"{ROOT}/jobrecord/") == []


def test_unlimited_staff_see_all_rows(rows: dict[str, JobRecord]) -> None:
    assert len(set(shown(staff("boss"), f"{ROOT}/jobrecord/"))) == 3
    root = Client()
    root.force_login(
        User.objects.create_superuser("ann")
    )  # the hook would say acme, but is not asked
    assert len(set(shown(root, f"{ROOT}/jobrecord/"))) == 3


def broken(user: User) -> list[str]:
    raise LookupError("the table of staff is gone")


def test_a_failing_hook_shows_nothing(settings: Any, rows: dict[str, JobRecord]) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.admin.test_organization_scope.broken",
    }
    client = staff("boss")
    client.raise_request_exception = False
    assert client.get(f"{ROOT}/jobrecord/").status_code == 500
