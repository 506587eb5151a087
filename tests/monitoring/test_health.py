"""Health: what is found when parts are away, slow or behind, in how long, and that looking changes
nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.db import connections
from django.db.backends.signals import connection_created
from django.utils import timezone

from wellos_jobs import conf
from wellos_jobs.broker import keys
from wellos_jobs.models import JobRecord, Schedule
from wellos_jobs.monitoring import health, health_checks, health_probes
from wellos_jobs.monitoring.health import Check, HealthReport, Status
from wellos_jobs.monitoring.health_probes import DatabaseFacts, RedisFacts

from .. import jobs
from ..conftest import UseRedis
from ..support.engine import Books, Hand, work
from ..support.processes import Fleet, wait_until
from ..support.servers import RedisServer, free_port
from ..views.test_status import dump

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

BOUND = 10.0
"""Seconds: far above the one and a half that are promised, for slow machines; a hang would take
minutes."""


def only(name: str, found: HealthReport | None = None) -> Check:
    """Return the first check of a name that is not ok, or else the first one."""
    checks = (found or health.report()).named(name)
    return next((check for check in checks if check.status is not Status.OK), checks[0])


def at(queue: str, name: str) -> Check:
    return next(check for check in health.report().named(name) if check.where == queue)


def facts(**changes: Any) -> RedisFacts:
    """A healthy Redis."""
    info = {
        "used_memory": 5_000_000,
        "maxmemory": 0,
        "maxmemory_policy": "noeviction",
        "aof_enabled": 1,
    }
    well = {
        "info": info,
        "events": 3,
        "lag": 0.1,
        "has_leader": True,
        "beat_age": 2.0,
        "snapshots": "",
    }
    return RedisFacts(**{"seconds": 0.001, **well, **changes})


def info(**changes: Any) -> RedisFacts:
    return facts(info={**facts().info, **changes})


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """A process that accepts connections and never responds."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def timed() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < BOUND


def probing() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("wellos_jobs probe")
    ]


# --- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "name", "status", "said"),
    [
        (facts(), "redis", "ok", "answers"),
        (redis.ConnectionError("refused"), "redis", "critical", "refused"),
        (redis.ConnectionError("refused"), "ledger", "unknown", "does not respond"),
        (facts(), "memory", "ok", "5 MB are used"),
        (info(maxmemory=10_000_000), "memory", "ok", "5 of 10 MB"),
        (info(maxmemory=6_000_000), "memory", "warning", "raise `maxmemory`"),
        (info(maxmemory=5_000_001), "memory", "critical", "raise `maxmemory`"),
        (facts(info={}), "memory", "unknown", "may not read"),
        (facts(), "eviction", "ok", "Nothing"),
        (info(maxmemory_policy="allkeys-lru"), "eviction", "warning", "allkeys-lru"),
        (facts(info={}), "eviction", "unknown", "may not read"),
        (facts(), "persistence", "ok", "on disk"),
        (info(aof_enabled=0), "persistence", "warning", "appendonly yes"),
        (
            facts(info={**info(aof_enabled=0).info}, snapshots="3600 1"),
            "persistence",
            "ok",
            "on disk",
        ),
        (
            facts(info={**info(aof_enabled=0).info}, snapshots=None),
            "persistence",
            "unknown",
            "may not read",
        ),
        (info(aof_last_write_status="err"), "persistence", "critical", "aof_last_write_status"),
        (info(rdb_last_bgsave_status="err"), "persistence", "critical", "disk full"),
        (facts(), "leader", "ok", "running"),
        (facts(beat_age=31.0), "leader", "warning", "no heartbeat"),
        (facts(beat_age=None), "leader", "warning", "no heartbeat"),
        (facts(beat_age=121.0), "leader", "critical", "no heartbeat"),
        (facts(has_leader=False), "leader", "warning", "takes over"),
        (
            facts(has_leader=False, beat_age=31.0),
            "leader",
            "critical",
            "start `manage.py rqworker`",
        ),
        (
            facts(has_leader=False, beat_age=None),
            "leader",
            "critical",
            "start `manage.py rqworker`",
        ),
        (facts(), "ledger", "ok", "up to date"),
        (facts(lag=11.0), "ledger", "warning", "3 events wait"),
        (facts(lag=61.0), "ledger", "critical", "the oldest for 61 s"),
        (facts(lag=None), "ledger", "unknown", "may not read"),
        (facts(events=500), "stream", "ok", "500 of"),
        (facts(events=501), "stream", "warning", "slows down"),
        (facts(events=1001), "stream", "critical", "slows down"),
        (facts(events=None), "stream", "unknown", "may not read"),
    ],
)
def test_checks_of_a_redis(seen: Any, name: str, status: str, said: str) -> None:
    check = next(
        check for check in health_checks.server("default", seen, 1000) if check.name == name
    )
    assert (check.status, check.where) == (status, "default")
    assert said in check.text


NOW = timezone.now()


def store(late: float | None = None, **changes: Any) -> DatabaseFacts:
    due = None if late is None else NOW - timedelta(seconds=late)
    return DatabaseFacts(
        0.001, True, schedules=0 if late is None else 1, next_run_at=due, **changes
    )


@pytest.mark.parametrize(
    ("stores", "servers", "complete", "status", "said"),
    [
        ([store()], [facts()], True, "ok", "no schedule needs one"),
        ([store(late=-60)], [facts()], True, "critical", "start `manage.py rqscheduler`"),
        ([store()], [facts(entries=1)], True, "critical", "start `manage.py rqscheduler`"),
        ([store(late=-60)], [facts(has_clock=True)], True, "ok", "no run is late"),
        ([store(late=30)], [facts(), facts(has_clock=True)], True, "ok", "no run is late"),
        ([store(), store(late=61)], [facts(has_clock=True)], True, "critical", "61 s late"),
        ([], [facts()], False, "unknown", "Not every"),
        ([store(late=-60)], [], False, "unknown", "Not every"),
    ],
)
def test_check_of_the_scheduler(
    stores: Any, servers: Any, complete: bool, status: str, said: str
) -> None:
    check = health_checks.scheduler(stores, servers, complete=complete, now=NOW)
    assert check.status == status
    assert said in check.text


def test_the_report_has_the_worst_status() -> None:
    assert [str(status) for status in Status] == ["ok", "unknown", "warning", "critical"]
    checks = [
        Check("redis", "default", Status(status), None, "")
        for status in ("ok", "critical", "warning")
    ]
    assert health.worst(checks) is Status.CRITICAL
    assert health.worst([]) is Status.OK


# --- the real thing -------------------------------------------------------------------------------


def test_a_healthy_system(processes: Fleet, redis_server: RedisServer) -> None:
    processes.worker()
    processes.manage("rqscheduler")
    Schedule.objects.create(name="nightly", job_name="test-noop", cron="0 2 * * *")
    jobs.noop.enqueue()

    def is_well() -> bool:
        found = health.report()
        assert found.status is Status.OK, [
            check for check in found.checks if check.status is not Status.OK
        ]
        return True

    processes.wait_until(is_well, 30)
    found = health.report()
    assert {check.name for check in found.checks} == set(health.NAMES)
    assert {check.where for check in found.named("workers")} == set(conf.queues())
    assert at("reports", "workers").value == 1


def test_a_scheduler_that_was_killed(processes: Fleet) -> None:
    scheduler = processes.manage("rqscheduler")
    Schedule.objects.create(name="nightly", job_name="test-noop", cron="0 2 * * *")
    processes.wait_until(lambda: only("scheduler").status is Status.OK, 30)
    scheduler.end()
    processes.wait_until(lambda: only("scheduler").status is Status.CRITICAL, 30)
    assert "start `manage.py rqscheduler`" in only("scheduler").text
    assert only("leader").status in {Status.WARNING, Status.CRITICAL}


def test_jobs_wait_without_a_worker(redis_client: redis.Redis) -> None:
    jobs.noop.enqueue_bulk([{}, {}])
    check = at("default", "workers")
    assert (check.status, check.value) == ("critical", 0)
    assert "2 jobs wait" in check.text and "rqworker default" in check.text
    assert at("email", "workers").status is Status.OK
    Hand("default")
    assert (at("default", "workers").status, at("default", "workers").value) == ("ok", 1)
    redis_client.delete(
        keys.worker("hand")
    )  # its machine died: the hash has expired, the set still names it
    assert at("default", "workers").status is Status.CRITICAL


def test_the_stream_is_full(settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "STREAM_MAX": 10}
    jobs.noop.enqueue_bulk([{}] * 5)
    assert only("stream").status is Status.OK
    jobs.noop.enqueue_bulk([{}] * 5)
    assert only("stream").status is Status.WARNING
    jobs.noop.enqueue()
    assert (only("stream").status, only("stream").value) == ("critical", 11)
    Books().fold()


def test_the_ledger_is_behind(redis_client: redis.Redis) -> None:
    handle = jobs.noop.enqueue()
    ((_position, event),) = redis_client.xrange(keys.EVENTS)
    redis_client.delete(keys.EVENTS)
    redis_client.xadd(keys.EVENTS, event, id=f"{int((time.time() - 3600) * 1000)}-0")
    check = only("ledger")
    assert check.status is Status.CRITICAL
    assert 3500 < (check.value or 0) < 3700
    assert Books().row(handle).enqueued_at is not None


def test_rows_unknown_to_redis(use_redis: UseRedis, settings: Any) -> None:
    url = settings.REDIS_URL
    pushed = jobs.noop.enqueue()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    jobs.noop.enqueue_bulk([{}, {}])
    JobRecord.objects.update(created_at=timezone.now() - timedelta(seconds=60))
    assert only("relay").status is Status.WARNING  # as long as Redis is unavailable, all count
    use_redis(url)
    check = only("relay")
    assert (check.where, check.status) == ("default", "warning")
    assert "2 committed jobs" in check.text
    JobRecord.objects.exclude(pk=pushed.id).update(
        created_at=timezone.now() - timedelta(seconds=301)
    )
    assert only("relay").status is Status.CRITICAL
    JobRecord.objects.exclude(pk=pushed.id).delete()
    assert (
        only("relay").status is Status.OK
    )  # the ledger has not folded the other one, but Redis has it


def test_a_queue_builds_up(settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BACKLOG_ALERTS": {"waiting": 2}}
    jobs.noop.enqueue_bulk([{}] * 3)
    found = {check.where: check.status for check in health.backlog()}
    assert found == {queue: "warning" if queue == "default" else "ok" for queue in conf.queues()}
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BACKLOG_ALERTS": None}
    assert health.backlog() == ()


def test_a_broken_schedule() -> None:
    schedule = Schedule.objects.create(name="nightly", job_name="test-noop", cron="0 2 * * *")
    Schedule.objects.filter(pk=schedule.pk).update(
        broken="its job is gone", next_run_at=NOW - timedelta(days=1)
    )
    check = only("schedules")
    assert (check.status, check.value) == ("warning", 1)
    assert only("scheduler").status is Status.OK  # what cannot run is not late


# --- away, and silent -----------------------------------------------------------------------------


def test_redis_is_down(redis_server: RedisServer) -> None:
    redis_server.stop()
    with timed():
        found = health.report()
    assert only("redis", found).status is Status.CRITICAL
    assert "Connection refused" in only("redis", found).text
    assert only("workers", found).status is Status.UNKNOWN
    assert {check.status for check in found.named("database")} == {Status.OK}
    redis_server.start()
    assert only("redis").status is Status.OK


def test_redis_accepts_connections_but_does_not_respond(redis_server: RedisServer) -> None:
    with paused(redis_server.pid), timed():
        found = health.report()
        assert {check.status for check in health.backlog()} == {Status.UNKNOWN}
    assert only("redis", found).status is Status.CRITICAL
    assert only("redis").status is Status.OK


def test_a_database_accepts_connections_but_does_not_respond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its driver waits for minutes; all probes of it share one thread."""
    pytest.importorskip("psycopg")
    with black_hole() as port:
        silent = {
            **connections.settings["other"],
            "ENGINE": "django.db.backends.postgresql",
            "PORT": port,
        }
        silent |= {"HOST": "127.0.0.1", "NAME": "nothing", "USER": "nobody", "OPTIONS": {}}
        monkeypatch.setitem(connections.settings, "other", silent)
        with timed():
            found = [health.report(timeout=0.2) for _ in range(3)]
        assert probing() == ["wellos_jobs probe database other"]
    for one in found:
        assert [(check.where, check.status) for check in one.named("database")] == [
            ("default", "ok"),
            ("other", "critical"),
        ]
        assert "no answer for" in only("database", one).text
    monkeypatch.undo()
    wait_until(lambda: not probing(), 10, "the thread to end, as the hole has closed")
    assert only("database").status is Status.OK


def test_concurrent_probes_share_one_answer() -> None:
    go, asked = threading.Event(), []

    def question() -> str:
        asked.append(1)
        go.wait(BOUND)
        return "answer"

    first = health_probes.ask({("test",): question}, 0.0)
    assert isinstance(first["test",], health_probes.NoAnswer)
    go.set()
    assert health_probes.ask({("test",): question}, BOUND) == {("test",): "answer"}
    assert len(asked) == 1
    assert health_probes.ask({("test",): question}, BOUND) == {("test",): "answer"}
    assert len(asked) == 2


def test_an_error_is_returned() -> None:
    error = ValueError("what?")

    def question() -> None:
        raise error

    assert health_probes.ask({("test",): question}, BOUND) == {("test",): error}


# --- reading --------------------------------------------------------------------------------------


def test_a_report_changes_nothing(redis_client: redis.Redis) -> None:
    jobs.noop.enqueue()
    work("email")
    rows, before = list(JobRecord.objects.values()), dump(redis_client)
    health.report()
    health.backlog()
    assert dump(redis_client) == before
    assert list(JobRecord.objects.values()) == rows


def test_a_redis_user_with_few_rights(
    redis_client: redis.Redis, use_redis: UseRedis, settings: Any
) -> None:
    """What the user may not read is unknown; the other checks work."""
    jobs.noop.enqueue()
    commands = ["+@read", "+@connection", "+time"]
    redis_client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=commands)
    use_redis(settings.REDIS_URL.replace("redis://", "redis://reader@"))
    found = health.report()
    redis_client.acl_deluser("reader")
    statuses = {check.name: check.status for check in found.checks}
    assert {name for name, status in statuses.items() if status is Status.UNKNOWN} == {
        *("memory", "eviction", "persistence", "workers", "backlog")
    }
    assert (statuses["redis"], statuses["leader"], statuses["stream"]) == ("ok", "critical", "ok")


def test_it_leaves_no_connection_open() -> None:
    opened: list[Any] = []

    def note(connection: Any, **_: Any) -> None:
        opened.append(connection)

    connection_created.connect(note)
    health.report()
    connection_created.disconnect(note)
    assert {connection.alias for connection in opened} == {"default", "other"}
    assert [connection.connection for connection in opened] == [None, None]
