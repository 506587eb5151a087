"""Redis behind three real Sentinels: one that hangs, and a failover."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from wellos_jobs import broker as wellos_redis
from wellos_jobs.broker import sentinels
from wellos_jobs.checks import deploy
from wellos_jobs.models import JobRecord

from ..jobs import noop, scripted
from ..support.journal import Journal
from ..support.processes import Fleet
from ..support.sentinels import SentinelGroup
from ..support.servers import RedisServer

pytestmark = [pytest.mark.processes, pytest.mark.any_database]


@pytest.fixture
def group(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SentinelGroup]:
    with SentinelGroup(tmp_path) as found:
        settings.RQ_QUEUES = dict.fromkeys(django_settings.RQ_QUEUES, found.queue)
        monkeypatch.setenv("WELLOS_TEST_SENTINELS", json.dumps(found.queue))
        yield found


@contextlib.contextmanager
def hanging(server: RedisServer) -> Iterator[None]:
    """Let a server stand still: it takes connections and does not answer."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def completed() -> int:
    return JobRecord.objects.filter(name="test-scripted", state="completed").count()


def test_jobs_run_while_the_sentinel_that_is_named_first_hangs(
    processes: Fleet, journal: Journal, group: SentinelGroup
) -> None:
    with hanging(group.sentinels[0]):
        begun = time.monotonic()
        handles = [scripted.enqueue(journal=str(journal)) for _ in range(3)]
        took = time.monotonic() - begun
        assert took < 3, f"three enqueues took {took:.1f} s"
        worker = processes.worker("--processes", "2")
        processes.wait_until(lambda: completed() == len(handles), 25)
    assert "sends no heartbeat" not in worker.output()


def test_a_sentinel_that_hangs_is_waited_for_once_in_a_process(group: SentinelGroup) -> None:
    """Then the one that answered is asked first, whatever the client is for."""
    reports: list[float] = []
    sentinels.while_connecting(lambda: reports.append(time.monotonic()))
    try:
        with hanging(group.sentinels[0]):
            begun = time.monotonic()
            assert wellos_redis.source_client("default", "work").ping()
            first = time.monotonic() - begun
            assert wellos_redis.source_client("default", "enqueue").ping()
            second = time.monotonic() - begun - first
    finally:
        sentinels._reports.clear()
    assert first < 2.5 and second < 0.4, (first, second)
    assert len(reports) >= 2


def test_jobs_go_on_after_a_failover(
    processes: Fleet, journal: Journal, group: SentinelGroup
) -> None:
    """The primary dies in mid-load: the Sentinels make the replica the primary, every job
    completes, and every row ends."""
    worker = processes.worker("--processes", "2")
    handles = scripted.enqueue_bulk([{"steps": ["sleep:0.02"], "journal": str(journal)}] * 150)
    journal.wait_for_ends(40)
    group.primary.kill9()
    processes.wait_until(lambda: completed() == len(handles), 60)
    later = noop.enqueue()
    processes.wait_until(lambda: JobRecord.objects.get(pk=later.id).state == "completed", 30)
    assert worker.is_running()
    assert {entry.job for entry in journal.ends()} == {str(handle) for handle in handles}


def test_a_primary_that_may_go_on_alone_is_warned_of(group: SentinelGroup) -> None:
    def found() -> set[str]:
        return {str(fault.id).removeprefix("wellos_jobs.") for fault in deploy.check_servers()}

    assert "W107" in found()
    with group.primary.client() as client:
        client.config_set("min-replicas-to-write", 1)
    assert "W107" not in found()
