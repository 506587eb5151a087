"""Eager jobs run where their transaction commits, or would have committed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import TestCase

from wellos_jobs import JobState, Unique
from wellos_jobs.definitions import registry
from wellos_jobs.testing import CapturedJobs, JobFailed, drain, eager

from .local_jobs import local_job

pytestmark = pytest.mark.usefixtures("somebodys_redis")

ran: list[str] = []

in_both = pytest.mark.parametrize(
    "mode",
    [
        pytest.param("rolled back", marks=pytest.mark.django_db),
        pytest.param("committed", marks=pytest.mark.django_db(transaction=True)),
    ],
)


@pytest.fixture(autouse=True)
def _own_jobs() -> Iterator[None]:
    ran.clear()
    with registry.isolated():
        yield


def declared() -> Any:
    @local_job("note")
    def note(name: str, then: str = "") -> str:
        if then:
            with transaction.atomic():
                note.enqueue(then)
        ran.append(name)
        return name

    return note


@in_both
def test_a_job_runs_when_the_outermost_block_is_left(mode: str) -> None:
    note = declared()
    with eager() as jobs:
        handle = note.enqueue("alone")
        assert ran == ["alone"]
        assert (handle.state, handle.result) == (JobState.COMPLETED, "alone")

        with transaction.atomic():
            note.enqueue("first")
            with transaction.atomic():
                note.enqueue("second")
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                note.enqueue("rolled back")
                raise ZeroDivisionError
            assert ran == ["alone"]
        assert ran == ["alone", "first", "second"]

    note.enqueue("later")
    assert ran[-1] == "second"
    assert len(jobs) == 3


@in_both
def test_a_job_that_another_enqueues_runs_after_it(mode: str) -> None:
    note = declared()
    with eager():
        note.enqueue("outer", "inner")
    assert ran == ["outer", "inner"]


@in_both
def test_many_at_once_and_unique_ones(mode: str) -> None:
    @local_job("once", unique=Unique(until="done"))
    def once(name: str) -> None:
        ran.append(name)

    with eager():
        once.enqueue_bulk([{"name": "a"}, {"name": "b"}, {"name": "a"}])
    assert sorted(ran) == ["a", "b"]


@in_both
def test_errors_reach_the_code_that_enqueued(mode: str) -> None:
    @local_job("broken", max_attempts=1)
    def broken(kind: str) -> None:
        raise {"value": ValueError, "database": IntegrityError}[kind](kind)

    with eager():
        with pytest.raises(ValueError, match="value"):
            broken.enqueue("value")
        with pytest.raises(ValueError, match="value"), transaction.atomic():
            broken.enqueue("value")
        with pytest.raises(JobFailed) as failed, transaction.atomic():
            broken.enqueue("database")
        assert isinstance(failed.value.__cause__, IntegrityError)

    with eager(raise_errors=False):
        assert broken.enqueue("value").state is JobState.FAILED


@pytest.mark.django_db
def test_delayed_jobs_and_those_from_before_stay(jobs_eager: CapturedJobs) -> None:
    note = declared()
    later = note.using(delay=60).enqueue("later")
    assert (ran, later.state) == ([], JobState.DELAYED)
    drain(until=60)
    assert ran == ["later"]


@pytest.mark.django_db
def test_jobs_from_before_stay() -> None:
    note = declared()
    before = note.enqueue("before")
    with eager():
        note.enqueue("now")
    assert (ran, before.state) == (["now"], JobState.WAITING)


@pytest.mark.django_db
def test_callbacks_captured_by_django_run_once(jobs_eager: CapturedJobs) -> None:
    note, called = declared(), []
    with TestCase.captureOnCommitCallbacks(execute=True):
        with transaction.atomic():
            note.enqueue("once")
            transaction.on_commit(lambda: called.append("project"))
        assert (ran, called) == (["once"], [])
    assert (ran, called) == (["once"], ["project"])
