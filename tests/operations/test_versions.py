"""Stored data of an older version: replays, edits, copies, batches and schedules upgrade them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone

from wellos_jobs import JobHandle, enqueue, operations
from wellos_jobs.broker import keys
from wellos_jobs.definitions import registry
from wellos_jobs.definitions.validation import define
from wellos_jobs.errors import PayloadError
from wellos_jobs.models import DeadLetter, JobRecord, Schedule
from wellos_jobs.operations import edits
from wellos_jobs.schedules import run_now, synchronize, ticks, update_schedule

from ..support.engine import Books, Hand
from ..support.users import client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]


def mail(address: str, secret: str = "") -> str:
    raise ValueError("the server is away")


def mail_people(people: list[dict[str, str]], secret: str = "") -> list[dict[str, str]]:
    return people


def to_people(data: dict[str, Any]) -> dict[str, Any]:
    address = data.pop("address")
    return {**data, "people": [{"address": address}]}


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    with registry.isolated():
        declare_old()
        yield


def declare_old(**options: Any) -> None:
    registry._jobs["mail"] = define("mail", mail, sensitive=["secret"], max_attempts=1)


def declare_new() -> None:
    registry._jobs["mail"] = define(
        "mail", mail_people, sensitive=["secret"], version=2, upgrade={1: to_people}
    )


def dead_letter(books: Books, **data: Any) -> DeadLetter:
    handle = enqueue("mail", {"address": "ada@example.org", **data})
    Hand().run()
    return DeadLetter.objects.get(job=books.row(handle))


def test_the_version_is_stored_with_row_and_hash(redis_client: Any) -> None:
    declare_new()
    handle = enqueue("mail", {"people": []})
    assert handle.record().version == 2
    assert redis_client.hget(keys.job(handle.id), "w:version") == b"2"
    assert enqueue("nobody-declares-it", {}).record().version == 1


def test_the_replay_of_an_old_dead_letter_upgrades() -> None:
    letter = dead_letter(Books())
    declare_new()
    record = operations.replay(letter)
    Hand(name="new").run()
    assert JobHandle(record.pk, "default").result == [{"address": "ada@example.org"}]
    assert JobRecord.objects.get().version == 1


def test_an_edit_shows_and_stores_the_new_version() -> None:
    letter = dead_letter(Books(), secret="open sesame")
    declare_new()
    shown = edits.editable(edits.current_data(letter.job))
    assert shown == {"people": [{"address": "ada@example.org"}], "secret": shown["secret"]}
    shown["people"].append({"address": "bob@example.org"})
    record = operations.replay_edited(letter, shown)
    assert record.version == 2 and "open sesame" not in str(record.data)
    outcome = Hand(name="new").run()
    assert outcome.kind == "completed" and "bob@example.org" in outcome.result


def test_a_copy_has_the_new_version() -> None:
    letter = dead_letter(Books())
    declare_new()
    copy = operations.enqueue_copy(letter.job).record()
    assert (copy.version, copy.data) == (2, {"people": [{"address": "ada@example.org"}]})


def test_the_form_shows_the_new_version() -> None:
    letter = dead_letter(Books())
    declare_new()
    client = client_of(User.objects.create_superuser("root"))
    page = client.get(f"/admin/wellos_jobs/jobrecord/{letter.job_id}/copy/")
    assert page.status_code == 200 and "people" in page.text


def test_data_of_a_later_version_are_not_edited() -> None:
    declare_new()
    handle = enqueue("mail", {"people": []})
    declare_old()
    with pytest.raises(PayloadError, match="have version 2, and this process knows version 1"):
        operations.enqueue_copy(handle.record())


# --- schedules ------------------------------------------------------------------------------------


def stored(**fields: Any) -> Schedule:
    return Schedule.objects.create(
        name="mails",
        job_name="mail",
        cron="0 8 * * *",
        data={"address": "ada@example.org"},
        **fields,
    )


def only_job() -> JobRecord:
    return JobRecord.objects.get()


def test_a_tick_upgrades_the_data() -> None:
    now: datetime = timezone.now()
    stored(next_run_at=now - timedelta(seconds=5))
    declare_new()
    ticks.tick("default", now)
    assert (only_job().version, only_job().data) == (
        2,
        {"people": [{"address": "ada@example.org"}]},
    )


def test_run_now_upgrades_the_data() -> None:
    stored()
    declare_new()
    run_now("mails")
    assert only_job().data == {"people": [{"address": "ada@example.org"}]}


def test_a_save_upgrades_what_was_stored_and_leaves_what_was_assigned() -> None:
    row = stored()
    assert row.version == 1
    declare_new()
    row = Schedule.objects.get()
    row.enabled = False
    row.save()
    for _ in range(2):
        row = Schedule.objects.get()
        assert (row.version, row.data) == (2, {"people": [{"address": "ada@example.org"}]})
        row.save(update_fields=["enabled"])
    update_schedule("mails", data={"people": []})
    assert Schedule.objects.get().data == {"people": []}
    Schedule.objects.update(version=1, data={"people": [{"address": "bob@example.org"}]})
    assert Schedule.objects.get().version == 2


def test_assigned_data_have_the_declared_version() -> None:
    stored()
    declare_new()
    update_schedule("mails", data={"people": []})
    row = Schedule.objects.get()
    assert (row.version, row.data) == (2, {"people": []})


def test_an_older_process_does_not_save_newer_data() -> None:
    declare_new()
    Schedule.objects.create(name="mails", job_name="mail", cron="0 8 * * *", data={"people": []})
    declare_old()
    with pytest.raises(ValidationError, match="have version 2"):
        Schedule.objects.get().save()


def test_a_declared_schedule_follows_the_code(settings: Any) -> None:
    declared = {"job": "mail", "cron": "0 8 * * *", "data": {"address": "ada@example.org"}}
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "SCHEDULES": {"mails": declared}}
    synchronize()
    declare_new()
    declared["data"] = {"people": []}
    synchronize()
    row = Schedule.objects.get(name="mails")
    assert (row.version, row.data) == (2, {"people": []})
