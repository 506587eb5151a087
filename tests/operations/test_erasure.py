"""Erasure of a person: gone from every column where texts of people stand; what is left is said."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.core.management import CommandError, call_command
from django.utils import timezone

from wellos_jobs import operations
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
from wellos_jobs.operations.erasure import COLUMNS, ERASED

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
    rows = [row for model in COLUMNS for row in model._base_manager.all()]
    return json.dumps(
        json.loads(serializers.serialize("json", rows)), ensure_ascii=False
    ).casefold()


def test_nothing_of_the_person_is_left(zoe: User) -> None:
    found = operations.erase_person(
        "default", user_id=zoe.pk, username=zoe.username, texts=[MAIL, NAME]
    )

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
    operations.erase_person("default", user_id=zoe.pk, texts=[MAIL], by=root, reason="on demand")

    entry = AuditEntry.objects.get(action="erased")
    assert (entry.actor, entry.target_id, entry.reason) == (root, ERASED, "on demand")


def test_others_stay(zoe: User) -> None:
    make(data={})
    other = JobRecord.objects.create(
        name="mail", state="completed", data={"to": "ada@example.org"}, created_at=timezone.now()
    )
    operations.erase_person("default", user_id=zoe.pk, texts=[MAIL, NAME])
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
    operations.erase_person("default", texts=[MAIL])
    job.refresh_from_db()
    assert job.data == {"to": f"{before}{ERASED}, 8010 Graz"}


@pytest.mark.parametrize("given", [{}, {"texts": ["abc"]}])
def test_too_little_to_look_for(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidOperation):
        operations.erase_person("default", **given)
    assert not AuditEntry.objects.exists()


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
