"""django-redis: jobs on a cache's Redis, apart from the cache of pages; and connections that
last."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis
from django.core.cache import caches

from wellos_jobs import broker as connections

from ..jobs import add
from ..support.engine import work
from ..support.processes import Fleet, wait_until
from ..support.servers import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)

IDLE = 25.0
"""Seconds: a worker blocks for 10 s at a time, and redis-py's own socket timeout is 5 s."""


@pytest.fixture
def shared_cache(settings: Any) -> None:
    """All queues live on the Redis of the cache ``jobs``, another logical database than the cache
    ``default``."""
    shared = {"USE_REDIS_CACHE": "jobs", "SERIALIZER": "rq.serializers.JSONSerializer"}
    settings.RQ_QUEUES = dict.fromkeys(settings.RQ_QUEUES, shared)


def test_clearing_the_default_cache_loses_no_job(shared_cache: None) -> None:
    caches["default"].set("page", "x")
    handles = [add.enqueue(a=number, b=1) for number in range(3)]
    caches["default"].clear()  # FLUSHDB
    assert caches["default"].get("page") is None
    work("reports")
    assert [handle.result for handle in handles] == [1, 2, 3]


def test_a_queue_on_a_cache_keeps_its_timeouts_and_gets_bytes(
    shared_cache: None, settings: Any
) -> None:
    block = connections.client("default", "block").connection_pool.connection_kwargs
    assert block["socket_timeout"] > connections.BLOCK_SECONDS
    assert not block.get("decode_responses")
    assert block["db"] == caches["jobs"].client.get_client().connection_pool.connection_kwargs["db"]


@pytest.mark.parametrize("role", ["call", "work"])
def test_a_queue_with_a_url_works_too(role: Any) -> None:
    assert connections.client("default", role).ping()


def test_an_idle_worker_does_not_reconnect(processes: Fleet, redis_server: RedisServer) -> None:
    worker = processes.worker()
    with redis_server.client() as client:
        processes.wait_until(
            lambda: client.smembers("rq:workers"), 30, what="the worker's registration"
        )
        add.enqueue(a=1, b=2)  # every connection that it needs is open afterwards
        processes.wait_until(lambda: client.zcard("rq:finished:reports"), 30, what="the first job")
        until = time.monotonic() + 2
        wait_until(lambda: time.monotonic() > until, 5)
        before = _connections(client)
        until = time.monotonic() + IDLE
        wait_until(lambda: time.monotonic() > until, IDLE + 10, processes=[worker])
        assert _connections(client) == before


def _connections(client: redis.Redis) -> set[str]:
    return {row["id"] for row in client.client_list()}
