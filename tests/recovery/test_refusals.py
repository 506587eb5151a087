"""A Redis that is there but refuses: its memory is full, or it has become a replica. Nobody ends
for that."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
import redis

from wellos_jobs.broker import keys
from wellos_jobs.broker.claims import Answer, Claimer
from wellos_jobs.models import JobRecord
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.worker.worker import Worker, WorkerOptions

from ..conftest import UseRedis
from ..jobs import scripted
from ..support.journal import Journal
from ..support.processes import Fleet, Process, children_of
from ..support.servers import RedisServer, free_port

pytestmark = pytest.mark.processes


@pytest.fixture
def server(use_redis: UseRedis, redis_server: RedisServer) -> RedisServer:
    return redis_server


def completed() -> int:
    return JobRecord.objects.filter(state="completed").count()


def named(process: Process, what: str) -> int:
    """Return the pid of a child by what the supervisor's log calls it."""
    line = next(
        line for line in process.output().splitlines() if what in line and "started, pid" in line
    )
    return int(line.rpartition(" ")[2])


def test_a_worker_is_replaced_while_the_memory_is_full(
    processes: Fleet, journal: Journal, server: RedisServer
) -> None:
    """The supervisor cannot make the new worker known to RQ. It goes on, and so do the runs of its
    other workers."""
    supervisor = processes.worker("--processes", "2")
    first, second = (scripted.enqueue(steps=["sleep:4"], journal=str(journal)) for _ in range(2))
    journal.wait_for_starts(2)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        os.kill(named(supervisor, "-1 "), signal.SIGKILL)
        supervisor.wait_for_output("-3 started")
        processes.wait_until(lambda: completed() == 2, 30)
        assert supervisor.is_running()
        assert sorted([len(journal.starts(first)), len(journal.starts(second))]) == [1, 2]
        client.config_set("maxmemory", 0)
        processes.wait_until(
            lambda: [
                key
                for key in client.smembers(keys.WORKERS)
                if key.endswith(b"-3") and client.exists(key)
            ]
        )


def test_workers_that_start_while_the_memory_is_full_empty_it(
    processes: Fleet, journal: Journal, server: RedisServer
) -> None:
    """It is full of waiting jobs: only those who run them can help, and who folds what became of
    them."""
    handles = [scripted.enqueue(journal=str(journal)) for _ in range(20)]
    with server.client() as client:
        client.config_set("maxmemory", 1)
        processes.worker("--processes", "2")
        processes.wait_until(lambda: completed() == len(handles))
        processes.wait_until(
            lambda: all(client.ttl(keys.job(handle.id)) != -1 for handle in handles)
        )
    assert len(journal.starts()) == len(handles)


def test_a_worker_that_cannot_record_its_job_waits(
    server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not ask again at once, for ever, and ends when it is told to."""
    worker = Worker("w", WorkerOptions("default", ["default"], "a-set"), Slot())
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        calls: list[float] = []
        claim = Claimer._claim

        def ask(claimer: Claimer) -> Answer:
            calls.append(time.monotonic())
            worker.stopping = len(calls) == 5
            return claim(claimer)

        monkeypatch.setattr(Claimer, "_claim", ask)
        assert worker._claim().claim is None
    assert calls[-1] - calls[0] > 0.05 + 0.1 + 0.2 + 0.4
    assert len(caplog.records) < 10


@pytest.mark.parametrize("replica", [False, True])
def test_blocked_workers_are_woken_by_an_error(
    processes: Fleet, server: RedisServer, replica: bool
) -> None:
    """As in a failover: the primary that idle processes block on becomes a replica of another
    one."""
    ours = [processes.worker("--processes", "2"), processes.manage("rqscheduler")]
    done = scripted.enqueue()
    processes.wait_until(lambda: completed() == 1)
    with server.client() as client:
        processes.wait_until(
            lambda: blocked(client) >= 4, what="workers, housekeeping and clock to wait"
        )
        before = [children_of(process.pid) for process in ours]
        if replica:
            client.execute_command("REPLICAOF", "127.0.0.1", free_port())
            ours[0].wait_for_output("Redis is unavailable")
            client.execute_command("REPLICAOF", "NO", "ONE")
        else:
            for found in client.client_list():
                if "b" in found["flags"]:
                    client.client_unblock(int(found["id"]), error=True)
        handle = scripted.enqueue()
        processes.wait_until(lambda: completed() == 2)

    assert handle.id != done.id
    assert [children_of(process.pid) for process in ours] == before
    assert "Traceback" not in "".join(process.output() for process in ours)


def blocked(client: redis.Redis) -> int:
    found: Any = client.client_list()
    return sum("b" in one["flags"] for one in found)
