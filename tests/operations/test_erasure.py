"""Erasure of a person: gone from every column where texts of people stand; what is left is said."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from wellos_jobs.errors import InvalidOperation
from wellos_jobs.models import (
    AuditEntry,
    BulkOperation,
    DeadLetter,
    JobAttempt,
    JobLog,
    JobRecord,
    SavedView,
)
from wellos_jobs.operations import Person, erase_person, erasure, find_person
from wellos_jobs.operations.erasure import ERASED, TABLES

from ..support.schedules import make

pytestmark = pytest.mark.django_db(databases=["default", "other"])

MAIL, NAME = "Zoë.Müller@example.org", "Zoë Müller"


@pytest.fixture
def zoe() -> User:
    """A person who stands everywhere."""
    now = timezone.now()
    user = User.objects.create_user("zoe.mueller")
    job = JobRecord.objects.create(
        name="mail",
        state="failed",
        data={"to": MAIL, "lines": [{NAME: 1}]},
        result=f"sent to {MAIL.upper()}",
        error=f"{NAME} is unknown",
        requested_by=user,
        created_at=now,
    )
    JobAttempt.objects.create(job=job, number=1, outcome="failed", ended_at=now, message=MAIL)
    JobLog.objects.create(job=job, number=1, lines=[["INFO", f"to {MAIL}"]])
    DeadLetter.objects.create(
        job=job, reason="exhausted", fingerprint="f", created_at=now, message=MAIL, assigned_to=user
    )
    who = {"actor": user, "actor_name": user.username, "address": "192.0.2.7"}
    AuditEntry.objects.create(
        at=now, action="canceled", target_type="job", target_id="1", detail={"to": MAIL}, **who
    )
    BulkOperation.objects.create(
        action="cancel", model="jobrecord", site="admin", query=f"q={NAME}", created_at=now, **who
    )
    SavedView.objects.create(owner=user, page="jobs", name="mine", query="")
    return user


def everything() -> str:
    rows = [row for table in TABLES for row in table.rows("default")]
    return json.dumps(
        json.loads(serializers.serialize("json", rows)), ensure_ascii=False
    ).casefold()


def test_nothing_of_the_person_is_left(zoe: User) -> None:
    found = erase_person("default", Person(zoe.pk, zoe.username, [MAIL, NAME]))

    rest = everything()
    for text in (MAIL, NAME, zoe.username, "192.0.2.7"):
        assert text.casefold() not in rest
    assert JobRecord.objects.get().requested_by is None
    assert not SavedView.objects.exists()
    assert found.open_jobs == []
    assert set(found.changed) == {
        f"wellos_jobs.{name}"
        for name in (
            "JobRecord",
            "JobAttempt",
            "JobLog",
            "DeadLetter",
            "AuditEntry",
            "BulkOperation",
            "SavedView",
        )
    }


def test_the_audit_log_keeps_that_but_not_who(zoe: User) -> None:
    root = User.objects.create_superuser("root")
    erase_person("default", Person(zoe.pk, texts=[MAIL]), by=root, reason="on demand")

    began, ended = AuditEntry.objects.filter(target_type="person").order_by("pk")
    assert (began.action, ended.action) == ("began erasing", "erased")
    for entry in (began, ended):
        assert (entry.actor, entry.target_id, entry.reason) == (root, ERASED, "on demand")
    assert ended.detail["changed"]["wellos_jobs.JobRecord"] == 1


def test_others_stay(zoe: User) -> None:
    make(data={})
    other = JobRecord.objects.create(
        name="mail", state="completed", data={"to": "ada@example.org"}, created_at=timezone.now()
    )
    erase_person("default", Person(zoe.pk, texts=[MAIL, NAME]))
    other.refresh_from_db()
    assert other.data == {"to": "ada@example.org"}


@pytest.mark.parametrize("before", ["Straße 5, ", "İstanbul ", "ﬁnal "])
def test_what_stands_around_a_text_stays(before: str) -> None:
    """Letters that grow when their case is folded do not move what is cut out."""
    job = JobRecord.objects.create(
        name="mail",
        state="completed",
        data={"to": f"{before}{MAIL.upper()}, 8010 Graz"},
        created_at=timezone.now(),
    )
    erase_person("default", Person(texts=[MAIL]))
    job.refresh_from_db()
    assert job.data == {"to": f"{before}{ERASED}, 8010 Graz"}


# --- what is looked for ---------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"texts": ["abc"]}, {"texts": [""]}])
def test_too_little_to_look_for(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidOperation):
        Person(**given)


@pytest.mark.parametrize("user_id", ["x", 10**30, "-1" * 20])
def test_no_key_of_a_user(user_id: Any) -> None:
    with pytest.raises(InvalidOperation, match="is not the id of a user"):
        find_person("default", Person(user_id))


def test_an_account_is_found_by_its_key_or_its_name(zoe: User) -> None:
    by_key = find_person("default", Person(str(zoe.pk)))
    assert by_key == find_person("default", Person(username=zoe.username))
    assert set(by_key.changed) == {
        f"wellos_jobs.{name}"
        for name in ("JobRecord", "DeadLetter", "AuditEntry", "BulkOperation", "SavedView")
    }
    BulkOperation.objects.update(actor=None, actor_name="", stopped_by=zoe.username)
    assert "wellos_jobs.BulkOperation" in find_person("default", Person(zoe.pk)).changed


def test_the_name_of_a_deleted_account_is_found(zoe: User) -> None:
    zoe.delete()
    found = erase_person("default", Person(username="zoe.mueller"))
    assert found.changed == {"wellos_jobs.AuditEntry": 1, "wellos_jobs.BulkOperation": 1}


def test_the_name_of_another_account_is_refused(zoe: User) -> None:
    ada = User.objects.create_user("ada")
    with pytest.raises(InvalidOperation, match="is that of user"):
        erase_person("default", Person(ada.pk, zoe.username))
    assert not AuditEntry.objects.filter(target_type="person").exists()


@pytest.mark.parametrize("reason", [f"for {MAIL.lower()}", "user zoe.mueller asked"])
def test_a_reason_that_names_the_person_is_refused(zoe: User, reason: str) -> None:
    with pytest.raises(InvalidOperation, match="reason names the person"):
        erase_person("default", Person(zoe.pk, texts=[MAIL]), reason=reason)
    assert not AuditEntry.objects.filter(target_type="person").exists()


def test_a_text_that_grows_still_fits_its_column(zoe: User) -> None:
    JobRecord.objects.update(progress_message="abcd" * 50)
    erase_person("default", Person(texts=["abcd"]))
    assert JobRecord.objects.get().progress_message == (ERASED * 50)[:200]


def test_views_that_name_the_person_are_deleted(zoe: User) -> None:
    """Renamed, these two would have the same name."""
    ada = User.objects.create_user("ada")
    for text in (MAIL, NAME):
        SavedView.objects.create(owner=ada, page="jobs", name=f"jobs of {text}")
    SavedView.objects.create(owner=ada, page="jobs", name="all")

    erase_person("default", Person(texts=[MAIL, NAME]))
    assert list(SavedView.objects.filter(owner=ada).values_list("name", flat=True)) == ["all"]


# --- how it goes on -------------------------------------------------------------------------------


def people(count: int, user: User) -> None:
    """Make jobs and audit entries in which the person stands, and others in between."""
    now = timezone.now()
    for number in range(count):
        job = JobRecord(name="mail", state="completed", data={"to": MAIL}, created_at=now)
        other = JobRecord(name="mail", state="completed", data={"n": number}, created_at=now)
        JobRecord.objects.bulk_create([job, other])
        AuditEntry.objects.create(
            at=now, action="retried", target_type="job", target_id=str(job.pk), actor=user
        )


def test_a_rehearsal_counts_what_is_erased_and_changes_nothing(zoe: User) -> None:
    JobRecord.objects.create(
        name="mail", state="waiting", data={"to": MAIL}, created_at=timezone.now()
    )
    person = Person(zoe.pk, zoe.username, [MAIL, NAME])
    before = everything()

    foreseen = find_person("default", person)

    assert everything() == before
    assert foreseen == erase_person("default", person)
    assert find_person("default", person).changed == {}
    assert len(find_person("default", person).open_jobs) == 1


def test_it_goes_through_tables_in_chunks(zoe: User, monkeypatch: pytest.MonkeyPatch) -> None:
    people(5, zoe)
    monkeypatch.setattr(erasure, "CHUNK", 3)
    found = erase_person("default", Person(zoe.pk, texts=[MAIL, NAME]))
    assert found.changed["wellos_jobs.JobRecord"] == 6
    assert found.changed["wellos_jobs.AuditEntry"] == 6
    assert MAIL.casefold() not in everything()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_what_stopped_midway_is_finished_by_another_run(
    zoe: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunks before the error stay erased; the audit log says that it began."""
    people(4, zoe)
    person = Person(zoe.pk, texts=[MAIL, NAME])
    erase, done = erasure._erase, []

    def fail_at_the_third(*given: Any) -> Any:
        done.append(given)
        if len(done) == 3:
            raise OperationalError("the database has gone away")
        return erase(*given)

    monkeypatch.setattr(erasure, "CHUNK", 2)
    monkeypatch.setattr(erasure, "_erase", fail_at_the_third)
    with pytest.raises(OperationalError):
        erase_person("default", person)
    left = find_person("default", person).changed["wellos_jobs.JobRecord"]
    assert 0 < left < 5
    actions = AuditEntry.objects.filter(target_type="person").order_by("pk")
    assert [entry.action for entry in actions] == ["began erasing"]

    assert erase_person("default", person).changed["wellos_jobs.JobRecord"] == left
    assert [entry.action for entry in actions.all()] == ["began erasing"] * 2 + ["erased"]
    assert find_person("default", person).changed == {}


def test_a_job_that_was_opened_meanwhile_keeps_its_data(
    zoe: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody replays it between the reading of a chunk and its change."""
    erase = erasure._erase

    def after_a_replay(*given: Any) -> Any:
        JobRecord.objects.update(state="waiting")
        return erase(*given)

    monkeypatch.setattr(erasure, "_erase", after_a_replay)
    found = erase_person("default", Person(texts=[MAIL]))
    assert found.open_jobs == [JobRecord.objects.get().pk]
    assert JobRecord.objects.get().data["to"] == MAIL


@pytest.mark.parametrize(("texts", "rows"), [([MAIL], 16), ([], 8)])
def test_how_many_rows_are_read(zoe: User, texts: list[str], rows: int) -> None:
    people(3, zoe)
    person = Person(zoe.pk, texts=texts)
    assert erasure.rows_to_read("default", person, 100) == rows
    assert erasure.rows_to_read("default", person, 4) == 5


# --- the command ----------------------------------------------------------------------------------


def test_the_command_says_what_it_left(zoe: User) -> None:
    job = JobRecord.objects.create(
        name="mail", state="delayed", data={"to": MAIL}, created_at=timezone.now()
    )
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 open jobs are left"):
        call_command("jobs_erase", MAIL, "--user", str(zoe.pk), stdout=out)

    assert f"job {job.pk} is open and keeps its data" in out.getvalue()
    assert "Not searched: encrypted values" in out.getvalue()
    job.refresh_from_db()
    assert job.data == {"to": MAIL}


def test_the_command_can_only_count(zoe: User) -> None:
    out = io.StringIO()
    call_command("jobs_erase", MAIL, "--username", zoe.username, "--dry-run", stdout=out)
    assert "default: wellos_jobs.JobRecord: 1 rows to change" in out.getvalue()
    assert JobRecord.objects.get().data["to"] == MAIL
    assert not AuditEntry.objects.filter(target_type="person").exists()


@pytest.mark.parametrize("given", [["abc"], ["--user", "x"], []])
def test_the_command_says_what_is_wrong(given: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("jobs_erase", *given)
