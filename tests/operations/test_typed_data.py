"""Data that a person types is never decrypted: a token copied from elsewhere is refused."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from wellos_jobs import operations, payload
from wellos_jobs.errors import PayloadError
from wellos_jobs.models import DeadLetter, JobRecord, Schedule
from wellos_jobs.payload import encryption
from wellos_jobs.schedules import run_now, ticks, update_schedule

from .. import jobs
from ..support.engine import Books, work
from ..support.users import client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]

ROOT = "/admin/wellos_jobs"
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

Door = Callable[[dict[str, Any]], str]


@pytest.fixture
def root() -> Client:
    return client_of(User.objects.create_superuser("root"))


@pytest.fixture
def token() -> str:
    """The token of another organization's secret, as it is stored."""
    secret = jobs.secret.using(organization="fjord").enqueue(token="open sesame")
    return str(secret.record().data["token"]["$encrypted"])


@pytest.fixture
def decrypted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that are decrypted."""
    seen: list[str] = []
    decrypt = encryption.decrypt

    def noted(token: str, *args: Any) -> str:
        seen.append(token)
        return decrypt(token, *args)

    monkeypatch.setattr(encryption, "decrypt", noted)
    return seen


def failed(books: Books) -> DeadLetter:
    jobs.fail.using(max_attempts=1).enqueue(message="broken")
    work()
    books.fold()
    return DeadLetter.objects.select_related("job").get()


SHAPES: dict[str, Callable[[str], Any]] = {
    "argument": lambda token: {"$encrypted": token},
    "nested": lambda token: {"a": {"b": {"$encrypted": token}}},
    "in a list": lambda token: [1, [{"$encrypted": token}]],
    "in a dict that looks like a tag": lambda token: {"$dict": {"$x": {"$encrypted": token}}},
    "in itself": lambda token: {"$dict": {"$encrypted": {"$encrypted": token}}},
    "not text": lambda token: {"$encrypted": [token]},
}


def page_text(client: Client, url: str, fields: dict[str, Any]) -> str:
    response = client.post(url, fields, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def copy_page(client: Client, value: Any) -> str:
    job = jobs.echo.enqueue(value=1)
    fields = {"queue": "default", "priority": "5", "organization": "", "reason": "try"}
    url = f"{ROOT}/jobrecord/{job.id}/copy/"
    return page_text(client, url, {"action": "confirm", "data": json.dumps(value), **fields})


def add_page(client: Client, value: Any) -> str:
    fields = {"name": "echo", "job_name": "test-echo", "organization_id": "", **TIMES}
    return page_text(client, f"{ROOT}/schedule/add/", {**fields, "data": json.dumps(value)})


def change_page(client: Client, value: Any) -> str:
    row = Schedule.objects.create(
        name="echo", job_name="test-echo", data={"value": 1}, cron="@daily"
    )
    fields = {"job_name": "test-echo", "organization_id": "", **TIMES}
    url = f"{ROOT}/schedule/{row.pk}/change/"
    return page_text(client, url, {**fields, "data": json.dumps(value)})


@pytest.mark.parametrize("door", [copy_page, add_page, change_page])
@pytest.mark.parametrize("shape", SHAPES)
def test_forms_refuse_a_token(
    root: Client, token: str, decrypted: list[str], door: Callable[..., str], shape: str
) -> None:
    shown = door(root, {"value": SHAPES[shape](token)})
    assert "which only wellos_jobs writes" in shown
    assert "open sesame" not in shown
    assert decrypted == []
    assert JobRecord.objects.filter(name="test-echo").count() == (door is copy_page)
    assert Schedule.objects.filter(data__value=1).count() == (door is change_page)


@pytest.mark.parametrize("shape", SHAPES)
def test_edit_data_and_replay_refuses_a_token(
    root: Client, books: Books, token: str, decrypted: list[str], shape: str
) -> None:
    letter = failed(books)
    decrypted.clear()
    data = {"message": SHAPES[shape](token)}
    shown = page_text(
        root,
        f"{ROOT}/deadletter/{letter.pk}/act/edit/",
        {"action": "confirm", "reason": "try", "data": json.dumps(data)},
    )
    assert "which only wellos_jobs writes" in shown
    with pytest.raises(PayloadError, match="which only wellos_jobs writes"):
        operations.replay_edited(letter, data)
    with pytest.raises(PayloadError, match="which only wellos_jobs writes"):
        operations.enqueue_copy(letter.job, data)
    assert decrypted == []
    assert letter.job.data == {"message": "broken"}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_schedule_refuses_a_token_for_an_argument_that_is_not_sensitive(
    token: str, decrypted: list[str], shape: str
) -> None:
    data = {"value": SHAPES[shape](token)}
    row = Schedule.objects.create(name="a", job_name="test-echo", data={"value": 1}, cron="@daily")
    doors: list[Callable[[], Any]] = [
        lambda: Schedule.objects.create(name="b", job_name="test-echo", data=data, cron="@daily"),
        lambda: Schedule.objects.bulk_create(
            [Schedule(name="b", job_name="test-echo", data=data, cron="@daily")]
        ),
        lambda: Schedule.objects.filter(pk=row.pk).update(data=data),
        lambda: update_schedule("a", data=data),
    ]
    for door in doors:
        with pytest.raises(ValidationError, match="which only wellos_jobs writes"):
            door()
    assert decrypted == []
    assert [found.data for found in Schedule.objects.all()] == [{"value": 1}]


def test_a_typed_token_is_refused_for_a_sensitive_argument_too(root: Client, token: str) -> None:
    """The job could send it anywhere."""
    fields = {"name": "b", "job_name": "test-secret", "organization_id": "", **TIMES}
    data = json.dumps({"token": {"$encrypted": token}})
    shown = page_text(root, f"{ROOT}/schedule/add/", {**fields, "data": data})
    assert "which only wellos_jobs writes" in shown
    assert not Schedule.objects.exists()


def test_another_job_of_a_schedule_does_not_get_the_kept_secret(root: Client) -> None:
    row = Schedule.objects.create(
        name="a", job_name="test-secret", data={"token": "open sesame"}, cron="@daily"
    )
    fields = {"job_name": "test-echo", "organization_id": "", **TIMES}
    url = f"{ROOT}/schedule/{row.pk}/change/"
    page_text(root, url, {**fields, "data": '{"value": "********"}'})
    row.refresh_from_db()
    assert (row.job_name, row.data) == ("test-echo", {"value": "********"})


def test_a_dict_that_looks_like_a_token_is_plain_data(root: Client) -> None:
    """Code may pass one; the form shows its stored form, and takes it back."""
    job = jobs.echo.enqueue(value={"$encrypted": "a text"})
    handle = operations.enqueue_copy(job.record())
    assert payload.decode(handle.record().data) == {"value": {"$encrypted": "a text"}}


def test_a_token_in_a_subclass_of_dict_is_plain_data(token: str, decrypted: list[str]) -> None:
    data = {"value": OrderedDict({"$encrypted": token})}
    row = Schedule.objects.create(name="a", job_name="test-echo", data=data, cron="@daily")
    copy = operations.enqueue_copy(jobs.echo.enqueue(value=1).record(), data)
    assert row.data == copy.record().data == {"value": {"$dict": {"$encrypted": token}}}
    assert decrypted == []


def test_kept_values_are_carried_over_without_decrypting(
    books: Books, decrypted: list[str]
) -> None:
    job = jobs.secret.enqueue(token="open sesame", fail=True)
    stored = job.record().data["token"]
    copy = operations.enqueue_copy(job.record(), {"token": "********", "fail": True})

    row = Schedule.objects.create(
        name="a", job_name="test-secret", data={"token": "open sesame"}, cron="@daily"
    )
    row.cron = "@hourly"
    row.save()
    Schedule.objects.update(next_run_at=timezone.now())
    ticks.tick("default", timezone.now())
    made = [run_now(row).record(), JobRecord.objects.get(pk=Schedule.objects.get().last_job_id)]

    assert decrypted == []
    assert copy.record().data["token"] == stored
    assert [record.data["token"] for record in made] == [row.data["token"]] * 2

    work()
    books.fold()
    decrypted.clear()
    letter = DeadLetter.objects.get(job_id=copy.id)
    operations.replay_edited(letter, {"token": "********"})
    assert decrypted == []
    assert copy.record().data == {"token": stored}
    work()
    assert decrypted and copy.state == "completed"
