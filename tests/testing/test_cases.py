"""The mixin for Django's test cases, and direct calls."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from wellos_jobs import JobHandle, JobState, current_job, report_progress
from wellos_jobs.errors import InvalidOperation, UnknownJob
from wellos_jobs.testing import JobsTestMixin, job_context

from ..jobs import scripted

pytestmark = pytest.mark.usefixtures("somebodys_redis")


class InATransaction(JobsTestMixin, TestCase):
    prepared: ClassVar[JobHandle]

    @classmethod
    def setUpTestData(cls) -> None:
        cls.prepared = scripted.enqueue(["result:prepared"])

    def setUp(self) -> None:
        super().setUp()
        scripted.enqueue(["result:set up"])

    def test_jobs_are_captured(self) -> None:
        self.jobs.assert_enqueued(scripted, count=1)

    def test_jobs_are_drained(self) -> None:
        handle = scripted.enqueue(["result:ran"])
        assert len(self.drain_jobs()) == 3
        assert (handle.result, self.prepared.result) == ("ran", "prepared")


class Eagerly(JobsTestMixin, TestCase):
    jobs_eager = True

    def test_jobs_run(self) -> None:
        with transaction.atomic():
            handle = scripted.enqueue(["result:ran"])
        assert handle.result == "ran"


class WithCommits(JobsTestMixin, TransactionTestCase):
    databases = {"default", "other"}  # noqa: RUF012

    def test_jobs_of_both_databases_are_drained(self) -> None:
        here = scripted.enqueue(["result:here"])
        there = scripted.using(database="other").enqueue(["result:there"])
        self.jobs.assert_enqueued(scripted, count=2)
        self.drain_jobs()
        assert (here.result, there.result) == ("here", "there")


class WithoutDatabase(JobsTestMixin, SimpleTestCase):
    def test_there_is_nothing(self) -> None:
        self.jobs.assert_nothing_enqueued()
        assert self.drain_jobs() == []


def test_a_job_called_directly_has_a_current_job(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="wellos_jobs")
    with job_context(scripted, attempt=2, organization="acme", context={"request_id": "r1"}) as run:
        assert scripted(["progress:10:begun", "progress:80:nearly", "log:hello"]) is None
        assert current_job() is run.job
        assert current_job().context == {"request_id": "r1"}

    assert (run.job.attempt, run.job.organization_id, run.job.name) == (2, "acme", "test-scripted")
    assert run.reports == [(10, "begun"), (80, "nearly")]
    assert run.progress == 80
    assert run.log == ["hello"]
    with pytest.raises(InvalidOperation):
        current_job()


def test_a_direct_run_by_name_and_who_asked_for_it() -> None:
    with job_context("test-scripted", requested_by=User(pk=7), data={"steps": []}) as run:
        report_progress(5)
    assert (run.job.requested_by_id, run.job.data) == ("7", {"steps": []})
    with pytest.raises(UnknownJob), job_context("no-such-job"):
        pass


def test_helpers_are_used_without_a_case(jobs_drain: Any) -> None:
    handle = scripted.enqueue(["result:1"])
    assert jobs_drain() == [handle]
    assert handle.state is JobState.COMPLETED
