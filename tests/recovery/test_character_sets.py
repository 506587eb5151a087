"""MySQL and MariaDB databases with an old character set: an emoji in whatever people and jobs
write."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection

from wellos_jobs import job, operations, report_progress
from wellos_jobs.checks import databases
from wellos_jobs.models import AuditEntry, DeadLetter, JobAttempt, JobLog, JobRecord, SavedView
from wellos_jobs.models import fields as model_fields

from .. import jobs
from ..support.engine import Books, work

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.system,
]
EMOJI = "\N{CHERRY BLOSSOM}"
TEXT = f"é € {EMOJI}"


@pytest.fixture(params=["utf8mb3", "latin1", "latin2"])
def character_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of its own, migrated like any other."""
    if connection.vendor != "mysql":
        pytest.skip("only MySQL and MariaDB have character sets that lack letters")
    before, name = connection.settings_dict["NAME"], f"{connection.settings_dict['NAME']}_old"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET {request.param}")
    model_fields.character_set.cache_clear()
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        call_command("migrate", verbosity=0)
        yield request.param
    finally:
        model_fields.character_set.cache_clear()
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")
        connection.close()
        connection.settings_dict["NAME"] = before


@job("test-writes-texts", max_attempts=1)
def writes(value: Any, fails: bool) -> Any:
    """Write to all places that a job can write to."""
    logging.getLogger("shop").warning("a line %s", TEXT)
    report_progress(40, TEXT)
    if fails:
        raise ValueError(f"no {TEXT}")
    return value


def written(character_set: str, short: bool = False) -> str:
    """Return what is stored of the text."""
    emoji = "?" if short else r"\U0001f338"
    euro = "?" if short else r"\u20ac"
    letter = "?" if short else r"\xe9"
    kept = {"utf8mb3": "é €", "latin1": "é €"}.get(character_set, f"{letter} {euro}")
    return f"{kept} {emoji}"


def _what_jobs_write(character_set: str) -> None:
    done, failed = (writes.enqueue({TEXT: TEXT}, fails) for fails in (False, True))
    after = jobs.noop.enqueue()
    work()
    books = Books()
    books.fold()
    assert books.row(after).state == "completed", "the ledger goes on"

    row = books.row(done)
    assert (row.state, row.result, row.data["value"]) == ("completed", {TEXT: TEXT}, {TEXT: TEXT})
    assert row.progress_message == written(character_set, short=True)
    assert TEXT in str(JobLog.objects.filter(job=row).get().lines)

    row, letter = books.row(failed), DeadLetter.objects.get()
    attempt = JobAttempt.objects.get()
    assert row.state == "failed"
    for text in (row.error, letter.message, attempt.message, attempt.traceback):
        assert f"no {written(character_set)}" in text
    for text in (letter.traceback, *JobRecord.objects.values_list("error", flat=True)):
        assert "not stored" not in text


def _what_people_write(character_set: str) -> None:
    ada = User(pk=7, username=TEXT)  # not stored: Django's own column refuses it
    handle = jobs.fail.enqueue()
    work()
    Books().fold()
    letter = DeadLetter.objects.get()
    operations.assign([letter], None, note=TEXT, by=ada, reason=TEXT)
    operations.replay(letter, by=ada, reason=TEXT)
    entries = AuditEntry.objects.exclude(action="failed")
    assert set(entries.values_list("reason", flat=True)) == {written(character_set)}
    assert written(character_set, short=True) in entries.values_list("actor_name", flat=True)
    assert operations.cancel(handle, reason=TEXT) == "canceled"
    SavedView.objects.create(owner_id=7, page="jobrecord", name=TEXT, query="")
    assert SavedView.objects.filter(name=TEXT).exists()


def test_an_emoji_everywhere(character_set: str) -> None:
    _what_jobs_write(character_set)
    JobRecord.objects.all().delete()
    _what_people_write(character_set)

    found = [message.id for message in databases.check_character_sets(["default"])]
    assert found == ["wellos_jobs.W009"]
    assert databases.check_character_sets() == []
