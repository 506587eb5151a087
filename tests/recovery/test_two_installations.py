"""Two projects, or staging and production, that were pointed at one Redis by mistake: the second
one says so and stays away, with everything it has."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command

from wellos_jobs import broker as wellos_redis
from wellos_jobs import installation
from wellos_jobs.broker import keys
from wellos_jobs.enqueueing import push as pushing
from wellos_jobs.maintenance.housekeeping import Housekeeping
from wellos_jobs.models import Installation, JobRecord
from wellos_jobs.processes.shared_memory import Slot

from ..jobs import noop
from ..support.engine import Hand
from ..support.processes import Fleet

OTHER = {"identity": "bakery", "home": "redis there, database bakery"}


@pytest.fixture
def taken(redis_client: redis.Redis) -> None:
    """Redis belongs to another installation."""
    redis_client.hset(keys.INSTALLATION, mapping=OTHER)


@pytest.mark.django_db(databases=["default", "other"])
class TestAway:
    def test_jobs_are_not_pushed(
        self,
        taken: None,
        redis_client: redis.Redis,
        caplog: pytest.LogCaptureFixture,
        django_capture_on_commit_callbacks: Any,
    ) -> None:
        """The caller has its row, and the log the reason and the way out."""
        before = set(redis_client.keys())
        for _ in range(2):
            with django_capture_on_commit_callbacks(execute=True):
                handle = noop.enqueue()
            assert JobRecord.objects.get(pk=handle.id).state == "waiting"
        assert set(redis_client.keys()) == before
        assert caplog.text.count("belongs to another installation (bakery") == 2

    def test_the_ledger_and_the_relay_stay_away(
        self,
        taken: None,
        redis_client: redis.Redis,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The events are the other one's, and stay."""
        redis_client.xadd(keys.EVENTS, {"e": "enqueued", "id": "theirs"})
        noop.enqueue()
        JobRecord.objects.update(created_at="2020-01-01T00:00:00Z")
        keeping = Housekeeping("default", Slot())
        monkeypatch.setattr(keeping, "_wait", lambda: None)
        for _ in range(2):
            keeping.round()
        assert redis_client.xlen(keys.EVENTS) == 1
        assert not redis_client.exists(keys.lane("default"))
        assert "belongs to another installation" in caplog.text

    @pytest.mark.parametrize("command", ["rqworker", "rqscheduler"])
    def test_commands_refuse_to_start(self, taken: None, command: str) -> None:
        with pytest.raises(CommandError, match="belongs to another installation .bakery"):
            call_command(command, verbosity=0)

    def test_a_process_asks_the_database_once(
        self,
        django_assert_num_queries: Any,
        redis_client: redis.Redis,
        django_capture_on_commit_callbacks: Any,
    ) -> None:
        """When it first meets the owner, and again when that changes."""
        pushing._owners.clear()
        assert not installation.refusal("default")
        redis_client.delete(keys.EVENTS)
        for expected in (1, 0):
            with django_capture_on_commit_callbacks() as callbacks:
                noop.enqueue()
            with django_assert_num_queries(expected):
                for callback in callbacks:
                    callback()
        assert redis_client.llen(keys.lane("default")) == 2

        redis_client.hset(keys.INSTALLATION, mapping=OTHER)
        with django_capture_on_commit_callbacks(execute=True):
            noop.enqueue()
        assert redis_client.llen(keys.lane("default")) == 2

        Installation.objects.update(identity="bakery")  # taken over
        with django_capture_on_commit_callbacks(execute=True):
            noop.enqueue()
        assert redis_client.llen(keys.lane("default")) == 3

    def test_workers_that_run_stay_away_when_they_connect_anew(
        self, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Redis was emptied, and another project was faster."""
        assert not installation.refusal("default")
        hand = Hand("default")
        client = wellos_redis.source_client("default", "claim")
        monkeypatch.setattr(hand.claimer, "connection", client)
        assert hand.claim() is None
        redis_client.hset(keys.INSTALLATION, mapping=OTHER)
        client.connection_pool.disconnect()
        with pytest.raises(wellos_redis.Unavailable, match="another installation"):
            hand.claim()


@pytest.mark.processes
def test_the_second_of_two_workers_ends_at_once(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    worker = processes.worker()
    processes.wait_until(lambda: redis_client.hexists(keys.INSTALLATION, "identity"))
    second = processes.worker(environment={"DATABASE_URL": f"sqlite:///{processes.folder}/new.db"})
    assert second.wait() == 1
    assert "belongs to another installation" in second.output()
    assert worker.is_running()
