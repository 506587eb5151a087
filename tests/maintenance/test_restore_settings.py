"""Operator settings are restored to an emptied Redis: paused queues, limits, open breakers."""

from __future__ import annotations

import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext

from wellos_jobs import operations
from wellos_jobs.broker import Unavailable, keys, queues, source_client
from wellos_jobs.maintenance import restore_settings
from wellos_jobs.maintenance.per_database import DatabaseMaintenance

from ..jobs import noop
from ..support.engine import EPOCH, Books
from ..support.processes import Fleet

pytestmark = pytest.mark.django_db(transaction=True)


def emptied(client: redis.Redis) -> None:
    """Lose everything, and let the housekeeping find out."""
    Books()
    client.flushall()
    keeper = DatabaseMaintenance(
        "default", "default", list(queues.all_counts()), source_client("default", "work")
    )
    client.set(keys.EPOCH, f"{EPOCH}-later")
    keeper.drain(f"{EPOCH}-later", lambda: None)


def test_paused_queues(redis_client: redis.Redis) -> None:
    operations.pause_queue("email", reason="the partner asked")
    operations.pause_queue("low")
    operations.resume_queue("low")
    operations.pause_queue("slow")
    operations.resume_queue("slow")
    operations.pause_queue("slow")
    emptied(redis_client)
    assert [name for name, counts in queues.all_counts().items() if counts.paused] == [
        "email",
        "slow",
    ]


def test_limits_and_breakers(redis_client: redis.Redis) -> None:
    operations.set_limit("c:exports", 2)
    operations.set_limit("c:imports", 7)
    operations.set_limit("c:imports", None)
    operations.trip_breaker("bank")
    operations.trip_breaker("books")
    operations.reset_breaker("books")
    set_before = redis_client.hgetall(keys.LIMITS)
    emptied(redis_client)
    assert redis_client.hgetall(keys.LIMITS) == set_before == {b"c:exports": b"2"}
    assert redis_client.exists(keys.breaker("b:bank"))
    assert not redis_client.exists(keys.breaker("b:books"))


def test_nothing_is_restored_in_a_known_epoch(redis_client: redis.Redis) -> None:
    books = Books()
    operations.pause_queue("email")
    queues.resume("email")
    keeper = DatabaseMaintenance("default", "default", ["email"], books.connection)
    keeper.drain(EPOCH, lambda: None)
    assert not queues.counts("email").paused


def test_redis_fails_again_during_the_restore(redis_client: redis.Redis) -> None:
    """As after a restart. Settings that could not be restored then are restored later."""
    operations.pause_queue("email")
    Books()
    redis_client.flushall()
    redis_client.set(keys.EPOCH, "later")
    keeper = DatabaseMaintenance("default", "default", ["email"], source_client("default", "work"))
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable):
            keeper.drain("later", lambda: None)
    finally:
        redis_client.config_set("maxmemory", 0)
    keeper.drain("later", lambda: None)

    assert queues.counts("email").paused


def test_two_queries_per_kind(redis_client: redis.Redis) -> None:
    for name in ("email", "low", "slow"):
        operations.pause_queue(name)
    operations.set_limit("c:exports", 2)
    operations.trip_breaker("bank")
    with CaptureQueriesContext(connection) as queries:
        restore_settings.restore("default", ["email", "low"], source_client("default", "work"))
    assert len(queries) == 6


def test_no_job_of_a_paused_queue_runs_after_the_loss(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    operations.pause_queue("email")
    waits = noop.using(queue="email").enqueue()
    worker = processes.worker()
    worker.wait_for_output("housekeeping started")
    redis_client.flushall()
    runs = noop.enqueue()
    processes.wait_until(lambda: runs.state == "completed")
    processes.wait_until(
        lambda: queues.counts("email").paused and queues.counts("email").waiting == 1
    )
    assert waits.state == "waiting"
