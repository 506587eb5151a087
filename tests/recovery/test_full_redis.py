"""A Redis whose memory is full, and one that takes connections but does not answer."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from wellos_jobs import JobHandle
from wellos_jobs import broker as wellos_redis
from wellos_jobs.broker import connection as wellos_connection
from wellos_jobs.broker import events, keys, rq_workers
from wellos_jobs.broker.claims import rescue
from wellos_jobs.maintenance import relay
from wellos_jobs.maintenance.housekeeping import Housekeeping
from wellos_jobs.models import JobRecord
from wellos_jobs.processes.child import Child
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.worker.rescue import RescueQueue

from ..conftest import UseRedis
from ..jobs import noop, scripted
from ..support.engine import EPOCH, Books, Hand
from ..support.servers import RedisServer

pytestmark = pytest.mark.django_db(databases=["default", "other"])

PROGRAMS = ["valkey", *filter(None, [shutil.which("redis-server")])]
"""Redis 7 refuses more than Valkey does when its memory is full: it is asked too where it is."""


@pytest.fixture(params=PROGRAMS, ids=lambda program: Path(program).name)
def server(
    request: pytest.FixtureRequest, tmp_path: Path, use_redis: UseRedis
) -> Iterator[RedisServer]:
    program = "" if request.param == "valkey" else request.param
    with RedisServer(tmp_path / "redis", program=program) as running:
        use_redis(running.url)
        yield running


@pytest.fixture
def push(django_capture_on_commit_callbacks: Any) -> Callable[..., JobHandle]:
    def put(job: Any = noop, **data: Any) -> JobHandle:
        with django_capture_on_commit_callbacks(execute=True):
            handle: JobHandle = job.enqueue(**data)
        return handle

    return put


Push = Callable[..., JobHandle]


def fill(server: RedisServer, room: int = 0) -> None:
    """Let the memory of a server be full up to ``room`` bytes."""
    with server.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + room if room else 1)


def test_the_ledger_empties_a_full_redis(push: Push, server: RedisServer) -> None:
    """It reads, applies, lets ended jobs expire and trims the stream."""
    handles = [push() for _ in range(5)]
    hand, books = Hand("default"), Books()
    fill(server)
    for _ in handles:
        hand.run()
    assert books.fold() == 15
    events.trim(books.connection, books.ledger.position)
    assert set(JobRecord.objects.values_list("state", flat=True)) == {"completed"}
    with server.client() as client:
        assert all(client.ttl(keys.job(handle.id)) > 0 for handle in handles)
        assert client.xlen(keys.EVENTS) == 0


def test_a_dead_worker_is_replaced_in_a_full_redis(push: Push, server: RedisServer) -> None:
    """Its job is rescued and its key goes: until then no other worker is started."""
    handle, hand = push(), Hand("default", name="dead")
    hand.take()
    fill(server)
    dead = RescueQueue(hand.connection, hand.queues)
    dead.add(Child("dead", 1, Slot()), clean=False, how="SIGKILL")
    dead.carry_out()
    assert not dead
    rq_workers.birth(hand.connection, "next", hand.queues, pid=2, ttl=90)
    with server.client() as client:
        assert client.smembers(keys.WORKERS) == {keys.worker("next").encode()}
        assert client.hget(keys.worker("next"), "birth") and client.ttl(keys.worker("next")) > 0
        assert client.lrange(keys.lane("default"), 0, -1) == [str(handle).encode()]


def test_the_relay_pushes_what_fits(server: RedisServer) -> None:
    """All at once would need more memory than there is."""
    handles = scripted.enqueue_bulk([{"steps": ["x" * 60_000]}] * 40)
    JobRecord.objects.update(created_at=timezone.now() - timedelta(seconds=10))
    hand = Hand("default")
    fill(server, room=1_500_000)
    with pytest.raises(wellos_redis.OutOfMemory):
        relay.relay("default", ["default"], hand.connection)
    with server.client() as client:
        assert 4 < client.llen(keys.lane("default")) < len(handles)
        client.config_set("maxmemory", 0)
    Books().fold()
    relay.relay("default", ["default"], hand.connection)
    with server.client() as client:
        assert client.llen(keys.lane("default")) == len(handles)


def test_a_backlog_alert_that_does_not_fit_holds_up_no_healing(
    push: Push, server: RedisServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs memory for a new key; it is sent once there is room."""
    limits = {"waiting": 1, "oldest_wait": 3_600}
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BACKLOG_ALERTS": limits}
    keeping = Housekeeping("default", Slot())
    monkeypatch.setattr(keeping, "_wait", lambda: None)
    keeping.round()
    monkeypatch.setattr(keeping, "_look_at_redis", lambda: None)
    for _ in range(2):
        push()
    old = timezone.now() - timedelta(days=40)
    JobRecord.objects.create(
        name="old", queue="default", state="completed", created_at=old, finished_at=old
    )

    fill(server)
    keeping.databases[0].prune()
    keeping.intervals.make_due("queues")
    with pytest.raises(wellos_redis.OutOfMemory), wellos_redis.refusals_as_unavailable():
        keeping.round()
    assert not JobRecord.objects.filter(name="old").exists()

    with server.client() as client:
        client.config_set("maxmemory", 0)
    keeping.intervals.make_due("queues")
    keeping.round()
    with server.client() as client:
        assert client.hexists(keys.BACKLOG, "default")


# --- no answer ------------------------------------------------------------------------------------


@pytest.fixture
def silent(server: RedisServer) -> Iterator[RedisServer]:
    """A server that stands still: the kernel takes connections for it."""
    wellos_connection._silent_until.clear()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield server
    finally:
        os.kill(server.pid, signal.SIGCONT)
        wellos_connection._silent_until.clear()


def test_enqueues_do_not_wait_for_a_redis_that_does_not_answer(
    push: Push, silent: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A second at most for all of a request, and no more for those of the next seconds."""
    begun = time.monotonic()
    handles = [push() for _ in range(3)]
    took = time.monotonic() - begun
    assert took < 1.8, f"three enqueues took {took:.1f} s"
    assert "did not answer a moment ago" in caplog.text
    assert JobRecord.objects.filter(enqueued_at=None).count() == len(handles)

    os.kill(silent.pid, signal.SIGCONT)
    wellos_connection._silent_until.clear()  # as after some seconds
    push()
    with silent.client() as client:
        assert client.llen(keys.lane("default")) >= 1


def test_leases_are_not_judged_after_a_stall(push: Push, server: RedisServer) -> None:
    """The server carries out a rescue that it got long before, and has not read renewals yet."""
    handle, hand = push(), Hand("default")
    hand.take()
    with server.client() as client:
        client.zadd(keys.LEASES, {str(handle): 1})
        past = f"{wellos_redis.redis_time(client) - 1:.6f}"
        message = ("crashed", "", "its lease ran out")
        now = wellos_redis.rq_time()
        assert wellos_redis.run(client, "rescue", now, *message, past) == []
        assert client.zscore(keys.LEASES, str(handle)) == 1
        assert [job.id for job in rescue(client, "crashed", "its lease ran out")] == [str(handle)]


def test_the_epoch_is_read_with_the_events(server: RedisServer) -> None:
    with server.client() as client:
        client.set(keys.EPOCH, EPOCH)
        assert events.read(client, events.START) == (EPOCH, [])
