"""Enqueue and the database: the caller's transaction, what it costs, and a Redis that is away."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings
from django.db import connection, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from wellos_jobs import JobOptions, JobState, enqueue, enqueue_bulk
from wellos_jobs.broker import job_hash, keys
from wellos_jobs.broker.connection import script_digest
from wellos_jobs.errors import JobNotFound
from wellos_jobs.models import JobRecord
from wellos_jobs.signals import job_enqueued

from ..conftest import UseRedis
from ..jobs import add, noop
from ..support.engine import CountingProxy, Hand, event_names, listening
from ..support.processes import wait_until
from ..support.proxies import CuttingProxy
from ..support.servers import RedisServer

BOTH = ["default", "other"]
committed = pytest.mark.django_db(transaction=True, databases=BOTH)


def is_pushed(client: redis.Redis, handle: object) -> bool:
    return bool(client.exists(keys.job(handle)))


# --- the caller's transaction ---------------------------------------------------------------------


@committed
@pytest.mark.parametrize("database", BOTH)
def test_a_job_is_pushed_when_the_transaction_of_its_database_commits(
    redis_client: redis.Redis, database: str
) -> None:
    with transaction.atomic(using=database):
        handle = add.using(database=database).enqueue(1, b=2)
        row = JobRecord.objects.using(database).get(pk=handle.id)
        assert (row.state, row.enqueued_at, row.data) == (JobState.WAITING, None, {"a": 1, "b": 2})
        assert handle.database == database and handle.state is JobState.WAITING
        assert not is_pushed(redis_client, handle)
    assert is_pushed(redis_client, handle)
    assert redis_client.hget(keys.job(handle), job_hash.DATABASE).decode() == database
    assert event_names(handle) == ["enqueued"]


@committed
@pytest.mark.parametrize("database", BOTH)
def test_a_rollback_leaves_no_job(redis_client: redis.Redis, database: str) -> None:
    with transaction.atomic(using=database):
        handle = noop.using(database=database).enqueue()
        transaction.set_rollback(True, using=database)
    assert not redis_client.keys("*")
    assert not JobRecord.objects.using(database).exists()
    with pytest.raises(JobNotFound, match=f"no job {handle.id} in the database '{database}'"):
        handle.refresh()


@committed
def test_an_exception_in_the_block_leaves_no_job(redis_client: redis.Redis) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        noop.enqueue()
        enqueue_bulk([("test-noop", {}, None)] * 3)
        raise ZeroDivisionError
    assert not redis_client.keys("*")
    assert not JobRecord.objects.exists()


@committed
def test_a_savepoint_that_is_rolled_back_takes_only_its_own_jobs(redis_client: redis.Redis) -> None:
    with transaction.atomic():
        before = noop.enqueue()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            inside = noop.enqueue()
            raise ZeroDivisionError
        after = noop.enqueue()
    assert [is_pushed(redis_client, handle) for handle in (before, inside, after)] == [
        True,
        False,
        True,
    ]
    assert set(JobRecord.objects.values_list("pk", flat=True)) == {before.id, after.id}


@committed
def test_a_transaction_on_another_database_does_not_delay_the_push(
    redis_client: redis.Redis,
) -> None:
    with transaction.atomic(using="other"):
        handle = noop.enqueue()
        assert is_pushed(redis_client, handle)


@committed
def test_the_router_picks_the_database_when_the_caller_does_not(redis_client: redis.Redis) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.db.router.db_for_write", lambda model, **hints: "other")
        handle = noop.enqueue()
    assert handle.database == "other"
    assert JobRecord.objects.using("other").filter(pk=handle.id).exists()
    assert redis_client.hget(keys.job(handle), job_hash.DATABASE) == b"other"


@committed
def test_one_bulk_may_write_to_several_databases_and_keeps_its_order(
    redis_client: redis.Redis,
) -> None:
    jobs = [("test-add", {"a": n}, JobOptions(database=BOTH[n % 2])) for n in range(6)]
    with transaction.atomic():
        handles = enqueue_bulk(jobs)
        assert [is_pushed(redis_client, handle) for handle in handles] == [False, True] * 3
    assert [handle.database for handle in handles] == BOTH * 3
    assert [handle.record().data["a"] for handle in handles] == list(range(6))


class InsideTestCase(TestCase):
    """Django's own TestCase never commits: its helper runs what a commit would."""

    def test_nothing_is_pushed_unless_commits_are_captured(self) -> None:
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            handle = noop.enqueue()
            assert not is_pushed(client, handle)
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                captured = noop.enqueue()
            assert len(callbacks) == 1
            assert is_pushed(client, captured)
            assert Hand().run().kind == "completed"


# --- what it costs --------------------------------------------------------------------------------


@pytest.fixture
def wire(use_redis: UseRedis) -> Iterator[CountingProxy]:
    """Counts commands on their way to Redis; the scripts are loaded and the connection is open."""
    with CountingProxy(settings.REDIS_URL) as proxy:
        use_redis(proxy.url)
        noop.enqueue()
        yield proxy


@committed
def test_in_a_transaction_it_is_one_query_and_at_commit_one_round_trip(wire: CountingProxy) -> None:
    whole, inside = wire.counting(), wire.counting()
    with (
        whole as until_commit,
        transaction.atomic(),
        inside as before,
        CaptureQueriesContext(connection) as queries,
    ):
        add.enqueue(1)
    assert (before, len(queries), until_commit) == ([], 1, ["EVALSHA"])


@committed
def test_outside_a_transaction_it_is_one_query_and_one_round_trip(wire: CountingProxy) -> None:
    with wire.counting() as trips, CaptureQueriesContext(connection) as queries:
        add.enqueue(1)
    assert (trips, len(queries)) == (["EVALSHA"], 1)


@committed
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_bulk_of_1000_is_at_most_4_queries_and_4_round_trips(
    wire: CountingProxy, in_transaction: bool
) -> None:
    rows = [{"a": number} for number in range(1_000)]
    with wire.counting() as trips, CaptureQueriesContext(connection) as queries:
        if in_transaction:
            with transaction.atomic():
                handles = add.enqueue_bulk(rows)
                inside = len(queries)
        else:
            handles = add.enqueue_bulk(rows)
            inside = len(queries)
    assert inside <= 4
    assert trips == ["EVALSHA"] * 4
    assert len({handle.id for handle in handles}) == 1_000
    stored = dict(JobRecord.objects.filter(name="test-add").values_list("pk", "data"))
    assert [stored[handle.id] for handle in handles] == rows


@committed
def test_a_bulk_of_1000_with_chosen_ids_costs_little_more(wire: CountingProxy) -> None:
    jobs = [("test-add", {"a": number}, JobOptions(id=f"add-{number}")) for number in range(1_000)]
    with CaptureQueriesContext(connection) as queries:
        handles = enqueue_bulk(jobs)
    assert len(queries) <= 8  # SQLite looks for ids in chunks
    assert not any(handle.duplicate for handle in handles)
    assert all(handle.duplicate for handle in enqueue_bulk(jobs))


@committed
def test_both_counters_agree(wire: CountingProxy, round_trips: object) -> None:
    with wire.counting() as on_the_wire, round_trips.counting() as sent:  # type: ignore[attr-defined]
        handle = add.enqueue(1)
        assert handle.state is JobState.WAITING
    assert on_the_wire == sent == ["EVALSHA", "HMGET"]


# --- Redis is unavailable, or answers too late ----------------------------------------------------


@committed
def test_with_redis_down_enqueue_returns_a_handle_and_logs(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill9()
    with caplog.at_level(logging.WARNING, logger="wellos_jobs"), transaction.atomic():
        handle = noop.enqueue()
        handles = noop.enqueue_bulk([{}, {}])
    assert handle.state is JobState.WAITING
    assert JobRecord.objects.filter(enqueued_at=None).count() == 3
    assert [handle.state for handle in handles] == [JobState.WAITING] * 2
    texts = [record.getMessage() for record in caplog.records]
    assert any(
        "Redis is unavailable" in text and "the relay will push 1 committed jobs" in text
        for text in texts
    )
    assert any("2 committed jobs" in text for text in texts)


@committed
def test_a_lost_reply_to_a_push_creates_no_second_job(
    redis_client: redis.Redis, redis_proxy: CuttingProxy
) -> None:
    cut = redis_proxy.cut_reply(script_digest("push"))
    handle = noop.enqueue()
    cut.wait()
    wait_until(lambda: is_pushed(redis_client, handle))
    assert redis_client.lrange(keys.lane("default"), 0, -1) == [str(handle).encode()]
    assert event_names(handle) == ["enqueued"]


@committed
def test_a_push_that_redis_refuses_is_logged_and_left_to_the_relay(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        handle = noop.enqueue()
        assert handle.state is JobState.WAITING
        assert not is_pushed(client, handle)
    assert "used memory > 'maxmemory'" in caplog.text


@committed
def test_an_overfull_stream_slows_enqueue_down_and_drops_nothing(
    settings: object, caplog: pytest.LogCaptureFixture
) -> None:
    settings.WELLOS_JOBS = {"STREAM_MAX": 2}  # type: ignore[attr-defined]
    handles = [noop.enqueue() for _ in range(4)]
    assert caplog.text.count("is the ledger running? slowing down") == 1
    assert [event_names(handle) for handle in handles] == [["enqueued"]] * 4


@committed
def test_job_enqueued_is_sent_where_the_job_is_pushed(redis_client: redis.Redis) -> None:
    with listening(job_enqueued) as heard, transaction.atomic():
        handle = add.enqueue(1)
        assert heard == []
    assert [(one["job_id"], one["name"], one["queue"], one["attempt"]) for one in heard] == [
        (str(handle), "test-add", "reports", 0)
    ]
    assert enqueue("test-noop").state is JobState.WAITING
