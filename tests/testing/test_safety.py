"""Nothing of a test reaches a real Redis, unless the project says that it is the tests' own."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import TestCase

from wellos_jobs import JobState, broker, enqueue
from wellos_jobs.broker import kept_away, queues
from wellos_jobs.errors import RedisUnavailable
from wellos_jobs.operations import pause_queue
from wellos_jobs.testing import captured_jobs, real_redis

from ..jobs import scripted

pytestmark = pytest.mark.usefixtures("somebodys_redis")


def test_django_marks_a_test_run_as_expected() -> None:
    assert kept_away.is_test_run()


@pytest.mark.django_db(transaction=True)
def test_a_committed_job_is_not_pushed(redis_client: redis.Redis) -> None:
    handle = scripted.enqueue(["result:1"])
    assert redis_client.dbsize() == 0
    assert handle.state is JobState.WAITING


def test_captured_callbacks_push_nothing(
    db: None, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestCase.captureOnCommitCallbacks(execute=True):
        scripted.enqueue(["result:1"])
    assert redis_client.dbsize() == 0

    # nor where no test run is noticed, as with a runner that sets up nothing
    monkeypatch.setattr(kept_away, "is_test_run", lambda: False)
    with TestCase.captureOnCommitCallbacks(execute=True), transaction.atomic():
        scripted.enqueue(["result:1"])
    assert redis_client.dbsize() == 0


@pytest.mark.django_db(transaction=True)
def test_outside_of_a_test_run_a_committed_job_is_pushed(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_away, "is_test_run", lambda: False)
    with transaction.atomic():
        handle = scripted.enqueue(["result:1"])
        assert redis_client.dbsize() == 0
    assert redis_client.exists(f"rq:job:{handle}")


def test_what_needs_redis_says_how_to_go_without(db: None) -> None:
    with pytest.raises(RedisUnavailable, match=r"tests do not reach Redis: wellos_jobs\.testing"):
        pause_queue("default")
    with pytest.raises(broker.KeptAway, match="REDIS_IN_TESTS"):
        scripted.enqueue().cancel()
    with pytest.raises(broker.KeptAway):
        queues.counts("default")


@pytest.mark.parametrize("command", ["rqworker", "rqscheduler"])
def test_no_worker_and_no_scheduler_waits_for_a_redis_it_may_not_reach(command: str) -> None:
    with pytest.raises(CommandError, match="tests do not reach Redis"):
        call_command(command)


@pytest.mark.django_db(transaction=True)
def test_a_redis_of_the_tests_is_reached(redis_client: redis.Redis, settings: Any) -> None:
    with real_redis():
        first = scripted.enqueue()
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "REDIS_IN_TESTS": True}
    second = enqueue("test-scripted")
    assert redis_client.exists(f"rq:job:{first}", f"rq:job:{second}") == 2

    with captured_jobs() as jobs:  # these keep away in any case
        third = scripted.enqueue()
        jobs.assert_enqueued(scripted, count=1)
    assert not redis_client.exists(f"rq:job:{third}")
