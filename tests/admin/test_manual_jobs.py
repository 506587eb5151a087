"""Jobs that staff limited to organizations may start by hand: only those with ``manual=True``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.test import Client

from wellos_jobs import JobHandle
from wellos_jobs.contrib import organization_reports
from wellos_jobs.definitions import registry
from wellos_jobs.definitions.validation import define
from wellos_jobs.errors import BadOption
from wellos_jobs.models import DeadLetter, JobRecord, Schedule

from .. import jobs
from ..support.engine import Books, work
from ..support.users import client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]

ROOT = "/admin/wellos_jobs"
OPTIONS = {"queue": "default", "priority": "5", "reason": "try"}
TIMES = {
    "cron": "0 8 * * *",
    "time_zone": "",
    **dict.fromkeys(("starts_at_0", "starts_at_1", "ends_at_0", "ends_at_1"), ""),
    "catch_up": "once",
    "catch_up_limit": "100",
    "overlap": "allow",
    "enabled": "on",
    "reason": "try",
}


@pytest.fixture(autouse=True)
def _project(settings: Any, no_notices: None) -> Iterator[None]:
    """``test-add`` may be started by hand, ``test-echo`` may not."""
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.admin.test_manual_jobs.organizations_of",
    }
    with registry.isolated():
        registry.register(dataclasses.replace(registry.get("test-add"), manual=True))
        yield


def organizations_of(user: User) -> list[str] | None:
    return None if user.username in ("boss", "chief") else ["acme", "globe"]


def client(name: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="wellos_jobs"))
    return client_of(user)


@pytest.fixture
def ann() -> Client:
    return client("ann")


def copy(client: Client, job: JobHandle, data: Any, organization: str = "acme") -> str:
    """Post the copy form; return the page shown after it."""
    fields = {**OPTIONS, "organization": organization, "data": json.dumps(data)}
    url = f"{ROOT}/jobrecord/{job.id}/copy/"
    return client.post(url, {"action": "confirm", **fields}, follow=True).content.decode()


def add(client: Client, job_name: str, data: Any, organization: str = "acme") -> bool:
    """Post the form of a new schedule; return whether it was stored."""
    fields = {"name": "new", "job_name": job_name, "organization_id": organization, **TIMES}
    client.post(f"{ROOT}/schedule/add/", {**fields, "data": json.dumps(data)})
    return Schedule.objects.filter(name="new").exists()


def change(client: Client, row: Schedule, **changes: str) -> Schedule:
    fields = {
        "job_name": row.job_name,
        "data": json.dumps(row.data),
        "organization_id": row.organization_id,
        **TIMES,
    }
    client.post(f"{ROOT}/schedule/{row.pk}/change/", {**fields, **changes})
    row.refresh_from_db()
    return row


def test_a_copy_with_other_data_needs_a_manual_job(ann: Client) -> None:
    echo = jobs.echo.using(organization="acme").enqueue(value=1)
    assert "only with its data and organization unchanged" in copy(ann, echo, {"value": 2})
    assert "only with its data and organization unchanged" in copy(ann, echo, {"value": 1}, "globe")
    for value in (True, 1.0):  # which Python calls equal to 1
        assert "data and organization unchanged" in copy(ann, echo, {"value": value})
    assert JobRecord.objects.count() == 1

    copy(ann, echo, {"value": 1})
    assert JobRecord.objects.filter(name="test-echo", organization_id="acme").count() == 2

    number = jobs.add.using(organization="acme").enqueue(a=1)
    copy(ann, number, {"a": 2}, "globe")
    assert JobRecord.objects.get(data={"a": 2}).organization_id == "globe"
    for organization in ("fjord", ""):
        assert "You may not see jobs of organization" in copy(ann, number, {"a": 3}, organization)


def test_unlimited_staff_copy_any_job() -> None:
    echo = jobs.echo.enqueue(value=1)
    copy(client("boss"), echo, {"value": 2}, "fjord")
    assert JobRecord.objects.get(data={"value": 2}).organization_id == "fjord"


def test_a_replay_with_other_data_needs_a_manual_job(ann: Client, books: Books) -> None:
    jobs.fail.using(max_attempts=1, organization="acme").enqueue(message="broken")
    work()
    books.fold()
    letter = DeadLetter.objects.get()
    url = f"{ROOT}/deadletter/{letter.pk}/act"

    fields = {"action": "confirm", "reason": "try"}
    page = ann.post(f"{url}/edit/", {**fields, "data": '{"message": "x"}'}, follow=True)
    assert "only with its data and organization unchanged" in page.content.decode()
    letter.refresh_from_db()
    assert letter.status == "open"

    ann.post(f"{url}/replay/", fields)
    letter.refresh_from_db()
    assert letter.status == "replayed"


def test_a_schedule_needs_a_manual_job_and_an_organization_of_the_user(ann: Client) -> None:
    assert not add(ann, "test-echo", {"value": 1})
    for organization in ("fjord", ""):
        assert not add(ann, "test-add", {"a": 1}, organization)
    form = ann.get(f"{ROOT}/schedule/add/").content.decode()
    assert '<option value="test-add"' in form and '<option value="test-echo"' not in form
    assert add(ann, "test-add", {"a": 1})


def test_unlimited_staff_schedule_any_job() -> None:
    assert add(client("boss"), "test-echo", {"value": 1}, "")


def test_of_other_schedules_only_the_times_can_be_changed(ann: Client) -> None:
    row = Schedule.objects.create(
        name="a", job_name="test-echo", data={"value": 1}, cron="@daily", organization_id="acme"
    )
    for value in ("2", "true"):
        assert str(change(ann, row, data=f'{{"value": {value}}}').data) == "{'value': 1}"
    assert change(ann, row, organization_id="globe").organization_id == "acme"
    assert change(ann, row, job_name="test-noop", data="{}").job_name == "test-echo"
    assert change(ann, row, cron="5 5 * * *").cron == "5 5 * * *"


@pytest.mark.parametrize(
    "columns",
    [
        {"organization_id": "acme", "data": {"organization_id": "fjord"}},
        {"organization_id": "fjord", "data": {"organization_id": "acme"}},
    ],
)
def test_a_report_schedule_is_of_the_organization_in_its_name(columns: dict[str, Any]) -> None:
    """Else a schedule of one organization would take the name of another's."""
    assert organization_reports.org_report.name == "org-report"
    with pytest.raises(ValidationError, match="'fjord'"):
        Schedule.objects.create(
            name="org-report:fjord", job_name="org-report", cron="@daily", **columns
        )


def _report() -> None: ...


def test_manual_is_true_or_false() -> None:
    with pytest.raises(BadOption, match="manual is 'yes': give True or False"):
        define("x", _report, manual="yes")


@pytest.mark.parametrize("line", ["@every 0.001", "@every 59", "*/30 * * * * *"])
def test_the_forms_take_a_minute_at_least_except_from_superusers(ann: Client, line: str) -> None:
    row = Schedule.objects.create(
        name="a", job_name="test-add", data={"a": 1}, cron="@every 60", organization_id="acme"
    )
    assert change(ann, row, cron=line).cron == "@every 60"
    assert change(client("boss"), row, cron=line).cron == "@every 60"

    root = client_of(User.objects.create_superuser("root"))
    assert change(root, row, cron=line).cron == ("@every 60" if "0.001" in line else line)
    if row.cron == line:  # what a superuser has set stays when others change the rest
        assert change(client("chief"), row, cron=line, overlap="skip").overlap == "skip"
