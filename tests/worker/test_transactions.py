"""A transaction that a job leaves open: rolled back, said, and no later job is harmed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import django_rq
import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections

from wellos_jobs.models import DeadLetter, JobRecord
from wellos_jobs.signals import job_started

from ..support.engine import Books, Hand, work
from ..support.rough_jobs import (
    add_group,
    add_group_async,
    foreign_leave_open,
    leave_open,
    leave_open_async,
)

ALIASES = ["default", "other"]
HOW = ["atomic", "nested", "autocommit"]

pytestmark = pytest.mark.django_db(transaction=True, databases=ALIASES)


@pytest.fixture(autouse=True)
def at_once(settings: Any) -> None:
    settings.RQ = {**settings.RQ, "COMMIT_MODE": "auto"}


def committed(alias: str = "default") -> list[str]:
    """Return the names of the groups that another connection sees, after it has written one."""
    found: list[str] = []

    def look() -> None:
        try:
            Group.objects.using(alias).create(name="of another connection")
            found.extend(Group.objects.using(alias).order_by("name").values_list("name", flat=True))
        finally:
            connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("leave", "add"), [(leave_open, add_group), (leave_open_async, add_group_async)]
)
def test_it_is_rolled_back_and_the_run_has_failed(
    leave: Any, add: Any, how: str, alias: str, caplog: pytest.LogCaptureFixture, books: Books
) -> None:
    left = leave.enqueue(how=how, alias=alias)
    later = [add.enqueue(name=f"kept {number}", alias=alias) for number in range(2)]
    work("default")

    failed = books.row(left)
    assert failed.state == "failed"
    letter = DeadLetter.objects.get(job=failed)
    assert letter.error_class == "wellos_jobs.errors.TransactionLeftOpen"
    assert f"left a transaction open on '{alias}'" in letter.message
    assert f"job={left} left a transaction open on the database '{alias}'" in caplog.text

    assert [books.row(handle).state for handle in later] == ["completed"] * 2
    assert committed(alias) == ["kept 0", "kept 1", "of another connection"]


def test_a_job_that_fails_inside_its_transaction_has_its_own_error(
    caplog: pytest.LogCaptureFixture, books: Books
) -> None:
    left = leave_open.enqueue(how="raises")
    later = add_group.enqueue(name="kept")
    work("default")
    assert "the job's own error" in books.row(left).error
    assert books.row(later).state == "completed"
    assert f"job={left} left a transaction open" in caplog.text
    assert committed() == ["kept", "of another connection"]


@pytest.mark.parametrize("how", HOW)
def test_a_job_of_plain_rq_code_has_failed_too(how: str, books: Books) -> None:
    job = django_rq.enqueue(foreign_leave_open, how)
    later = add_group.enqueue(name="kept")
    work("default")
    books.fold()
    failed = JobRecord.objects.get(rq_id=job.id)
    assert failed.state == "failed"
    assert "left a transaction open" in failed.error
    assert job.get_status() == "failed"
    assert books.row(later).state == "completed"
    assert committed() == ["kept", "of another connection"]


def test_what_a_receiver_of_a_signal_leaves_open_harms_no_job(books: Books) -> None:
    def leave(**_: Any) -> None:
        if not Group.objects.exists():
            leave_open.definition.function(how="atomic")

    job_started.connect(leave)
    try:
        added = [add_group.enqueue(name=f"kept {number}") for number in range(2)]
        work("default")
    finally:
        job_started.disconnect(leave)
    assert [books.row(handle).state for handle in added] == ["completed"] * 2
    assert committed() == ["kept 0", "kept 1", "of another connection"]


@pytest.mark.django_db(databases=ALIASES)
def test_the_transaction_around_the_run_stays_as_it_was(
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    """As in a test of a project, which runs jobs inside its own transaction."""
    Group.objects.create(name="before")
    depth = len(connection.atomic_blocks)
    with django_capture_on_commit_callbacks(execute=True):
        leave_open.enqueue(how="nested")
    outcome = Hand("default").run()
    assert outcome.kind == "failed"
    assert len(connection.atomic_blocks) == depth
    Group.objects.create(name="after")
    assert sorted(Group.objects.values_list("name", flat=True)) == ["after", "before"]
