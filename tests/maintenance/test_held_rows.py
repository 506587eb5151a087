"""Rows that the project holds are kept, with one word about the holder; all others are pruned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError, connections
from django.db.models.signals import post_delete, pre_delete

from wellos_jobs import operations
from wellos_jobs.broker import source_client
from wellos_jobs.errors import InvalidOperation
from wellos_jobs.maintenance import held_rows, prune
from wellos_jobs.maintenance.held_rows import HeldRows
from wellos_jobs.maintenance.per_database import DatabaseMaintenance
from wellos_jobs.models import JobRecord, Schedule
from wellos_jobs.states import DeadLetterStatus

from .. import models
from ..jobs import noop
from ..support.engine import EPOCH
from ..support.schedules import make
from .test_prune import ended, left, letter

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

Hold = Callable[[JobRecord], Any]


def by_protect(job: JobRecord) -> None:
    models.Invoice.objects.create(job=job)


def by_restrict_of_a_cascade(job: JobRecord) -> None:
    closed = letter(job, 40, DeadLetterStatus.DISCARDED)
    models.Incident.objects.create(letter=closed)


def by_constraint(job: JobRecord) -> None:
    models.Archive.objects.create(job=job)


def words(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("hold", "holder"),
    [
        (by_protect, "tests.Invoice"),
        (by_restrict_of_a_cascade, "tests.Incident"),
        (by_constraint, "the database (IntegrityError)"),
    ],
)
def test_held_rows_are_kept_and_the_others_go(
    hold: Hold, holder: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_rows, "BATCH", 3)
    jobs = [ended("completed", 40) for _ in range(10)]
    kept = jobs[:4]
    for job in kept:
        hold(job)
    held = HeldRows()

    deleted = [prune.prune("default", most=2, held=held)["completed"] for _ in range(4)]

    assert sum(deleted) == 6
    assert set(left()) == set(kept)
    assert len(words(caplog)) == 1
    assert f"rows of wellos_jobs.JobRecord are kept because {holder} holds them" in caplog.text


def test_rows_that_are_held_no_longer_go_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    by_constraint(ended("completed", 40))
    held = HeldRows()
    prune.prune("default", held=held)
    models.Archive.objects.all().delete()
    assert prune.prune("default", held=held)["completed"] == 0  # not looked at again so soon

    monkeypatch.setattr(held, "_forget_at", 0.0)
    assert prune.prune("default", held=held)["completed"] == 1


def test_a_dry_run_does_not_count_protected_rows() -> None:
    by_protect(ended("completed", 40))
    ended("completed", 40)
    assert prune.prune("default", dry_run=True)["completed"] == 1


# --- receivers ------------------------------------------------------------------------------------


@contextmanager
def receiving(signal: Any, receiver: Callable[..., None]) -> Iterator[None]:
    signal.connect(receiver, sender=JobRecord)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=JobRecord)


def refuse_failed(instance: JobRecord, **_: Any) -> None:
    if instance.state == "failed":
        raise ValidationError("failed jobs are evidence")


@pytest.mark.parametrize("signal", [pre_delete, post_delete])
def test_a_receiver_that_raises_keeps_its_row(
    signal: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kept = ended("failed", 200)
    ended("failed", 200)
    ended("completed", 200)
    JobRecord.objects.filter(state="failed").exclude(pk=kept.pk).update(state="canceled")

    with receiving(signal, refuse_failed):
        prune.prune("default")

    assert left() == [kept]
    assert f"the receiver {__name__}.refuse_failed holds them" in caplog.text


# --- the housekeeping -----------------------------------------------------------------------------


def maintenance() -> DatabaseMaintenance:
    keeper = DatabaseMaintenance("default", "default", ["default"], source_client("default"))
    keeper.drain(EPOCH, lambda: None)
    assert keeper.at_end
    return keeper


def heal(keeper: DatabaseMaintenance) -> None:
    keeper.prune()
    while keeper.is_busy:
        keeper.drain(EPOCH, lambda: None)
        keeper.heal()


def test_the_housekeeping_goes_on_and_names_the_holder_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source_client("default").set("rq:wellos:epoch", EPOCH)
    keeper = maintenance()
    for hold in (by_protect, by_constraint):
        hold(ended("completed", 40))
    ended("completed", 40)

    for _ in range(3):
        heal(keeper)

    assert len(left()) == 2
    assert keeper.is_open
    assert "unavailable" not in caplog.text
    assert len([text for text in words(caplog) if text.startswith("prune: ")]) == 2

    handle = noop.enqueue()
    keeper.drain(EPOCH, lambda: None)
    assert JobRecord.objects.get(pk=handle.id).enqueued_at is not None


def not_there(**_: Any) -> None:
    raise OperationalError("the warehouse does not answer")


def test_a_receiver_whose_own_database_is_away_is_no_outage_of_ours(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source_client("default").set("rq:wellos:epoch", EPOCH)
    keeper = maintenance()
    for _ in range(3):
        ended("completed", 40)
    asked = []

    def count(**_: Any) -> None:
        asked.append(1)
        not_there()

    with receiving(post_delete, count):
        heal(keeper)

    assert keeper.is_open
    assert "prune: old rows of default stay for now" in caplog.text
    assert len(asked) == 2, "a batch and one row: the others would wait in vain, too"
    heal(keeper)
    assert len(left()) == 1
    monkeypatch.setattr(keeper._held_rows, "_forget_at", 0.0)
    heal(keeper)
    assert left() == []


def test_one_row_whose_receiver_reports_an_outage_costs_one_pass(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source_client("default").set("rq:wellos:epoch", EPOCH)
    keeper = maintenance()
    kept = ended("completed", 40)
    ended("completed", 40)

    def refuse(instance: JobRecord, **_: Any) -> None:
        if instance.pk == kept.pk:
            not_there()

    with receiving(post_delete, refuse):
        for _ in range(2):
            heal(keeper)

    assert left() == [kept]
    assert "refuse holds them: the warehouse does not answer" in caplog.text


def test_an_outage_is_still_recognized(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wellos_jobs")
    source_client("default").set("rq:wellos:epoch", EPOCH)
    keeper = maintenance()
    ended("completed", 40)

    def cut(**_: Any) -> None:
        connections["default"].close()
        raise InterfaceError("connection already closed")

    with receiving(post_delete, cut):
        keeper.prune()
        keeper.heal()

    assert not keeper.is_open
    assert "housekeeping: database default is unavailable" in caplog.text


# --- schedules ------------------------------------------------------------------------------------


def test_a_schedule_that_is_held_is_not_deleted_and_says_by_whom() -> None:
    row = make()
    models.Reminder.objects.create(schedule=row)

    with pytest.raises(InvalidOperation, match=r"held by tests\.Reminder"):
        operations.delete_schedule(row)
    assert Schedule.objects.filter(pk=row.pk).exists()
