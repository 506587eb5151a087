"""The test bed itself: what it starts, breaks and cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections

from ..jobs import scripted
from ..support import servers
from ..support.journal import Journal, write
from ..support.outages import DatabaseOutage
from ..support.processes import PROJECT, Fleet, children_of, is_alive, wait_until
from ..support.proxies import CuttingProxy
from ..support.resp import Scanner
from ..support.round_trips import RoundTrips


def test_a_server_keeps_its_data_over_a_kill_and_loses_it_when_asked(tmp_path: Path) -> None:
    with servers.RedisServer(tmp_path, persistent=True) as server, server.client() as client:
        client.set("a", 1)
        server.restart()
        assert client.get("a") == b"1"
        server.stop()
        with server.client(retry=None) as hasty, pytest.raises(redis.ConnectionError):
            hasty.get("a")
        server.start()
        assert client.get("a") == b"1"
        server.restart(empty=True)
        assert client.get("a") is None


def test_nothing_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from tests.support import servers
from tests.support.processes import Process
server = servers.RedisServer()
server.start()
code = "import os, time; os.fork(); print(os.getpid(), flush=True); time.sleep(60)"
program = Process([sys.executable, "-c", code], {}, Path(sys.argv[1]))
print(server.pid, server.folder, flush=True)
time.sleep(60)
"""
    log = tmp_path / "program.log"
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(log)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().split()
        pids = [int(pid)]
        pids += map(int, wait_until(lambda: len(lines := log.read_text().split()) == 2 and lines))
        assert all(map(is_alive, pids))
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)), 10, f"{pids} to end")
    wait_until(lambda: not Path(folder).exists(), 10, f"{folder} to go")


def test_a_lost_reply_is_lost_after_the_command_was_carried_out() -> None:
    with (
        CuttingProxy(settings.REDIS_URL) as proxy,
        redis.Redis.from_url(proxy.url, retry=None) as client,
    ):
        cut = proxy.cut_reply("INCR", nth=2)
        assert client.incr("n") == 1
        with pytest.raises(redis.ConnectionError):
            client.incr("n")
        cut.wait()
        assert client.get("n") == b"2"


def test_the_replies_before_a_cut_in_a_pipeline_arrive_and_its_commands_are_all_carried_out() -> (
    None
):
    with (
        CuttingProxy(settings.REDIS_URL) as proxy,
        redis.Redis.from_url(proxy.url, retry=None) as client,
    ):
        client.set("big", "x" * 200_000)
        cut = proxy.cut_reply("marked")
        pipeline = client.pipeline(transaction=False)
        pipeline.get("big").set("marked", 1).set("after", 1)
        with pytest.raises(redis.ConnectionError):
            pipeline.execute()
        cut.wait()
        assert client.mget("marked", "after") == [b"1", b"1"]
        assert len(client.get("big")) == 200_000


def test_a_proxy_refuses_and_takes_connections_again() -> None:
    with (
        CuttingProxy(settings.REDIS_URL) as proxy,
        redis.Redis.from_url(proxy.url, retry=None) as client,
    ):
        assert client.ping()
        with proxy.refusing(), pytest.raises(redis.ConnectionError):
            client.ping()
        assert client.ping()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_messages_are_found_in_a_stream_however_it_is_cut(size: int) -> None:
    messages = [
        b"+OK\r\n",
        b"$-1\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"*-1\r\n",
        b"%1\r\n+a\r\n*0\r\n",
        b"|1\r\n+ttl\r\n:1\r\n$1\r\nx\r\n",
        b"_\r\n",
    ]
    stream = b"".join(messages)
    scanner = Scanner()
    found = [m for at in range(0, len(stream), size) for m in scanner.feed(stream[at : at + size])]
    assert found == messages


def test_round_trips_are_counted(round_trips: RoundTrips, redis_client: redis.Redis) -> None:
    redis_client.ping()
    with round_trips.counting() as trips:
        redis_client.set("a", 1)
        redis_client.pipeline().get("a").get("a").execute()
    assert trips == ["SET", "pipeline"]


def test_a_wait_in_vain_says_what_for_and_shows_the_logs(processes: Fleet) -> None:
    process = processes.start("-c", "print('hello from the log')")
    process.wait_for_output("hello")
    with pytest.raises(AssertionError, match=r"in vain for rain; last: 0(.|\n)*hello from the log"):
        processes.wait_until(lambda: 0, 0.1, "rain")


def test_children_are_seen_and_end_with_the_test(processes: Fleet) -> None:
    process = processes.start("-c", "import os, time; os.fork(); time.sleep(60)", fresh=True)
    child = processes.wait_until(process.children)[0]
    assert children_of(os.getpid()).count(process.pid) == 1
    process.kill9()
    assert is_alive(child)
    processes.end()
    wait_until(lambda: not is_alive(child))


def test_a_process_works_on_the_databases_and_the_redis_of_the_test(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    User.objects.create(username="from-the-test")
    script = """
import django; django.setup()
import redis
from django.conf import settings
from django.contrib.auth.models import User
redis.Redis.from_url(settings.REDIS_URL).set("seen", User.objects.get().username)
User.objects.using("other").create(username="from-the-process")
"""
    assert processes.start("-c", script).wait() == 0
    assert redis_client.get("seen") == b"from-the-test"
    assert User.objects.using("other").get().username == "from-the-process"


def test_a_process_sees_the_database_go_and_come_back(
    processes: Fleet, database_outage: DatabaseOutage, tmp_path: Path
) -> None:
    script = """
import sys, django; django.setup()
from pathlib import Path
from django.db import connection, Error
from django.contrib.auth.models import User
number = 0
while True:
    number += 1
    try:
        User.objects.create(username=str(number))
        print("wrote", flush=True)
    except Error as error:
        print("failed", flush=True)
        connection.close()
"""
    process = processes.start("-c", script)
    process.wait_for_output("wrote")
    with database_outage():
        process.wait_for_output("failed")
    failed_until = len(process.output())
    processes.wait_until(lambda: "wrote" in process.output()[failed_until:])


def test_a_real_worker_does_the_scripted_job(
    processes: Fleet, journal: Journal, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    handle = scripted.enqueue(
        steps=[f"wait_file:{go}", "query", "before:2:status:503", "result:well"],
        journal=str(journal),
    )
    worker = processes.worker("default")
    [start] = journal.wait_for_starts(1, handle.id)
    assert start.pid in worker.children()
    go.touch()
    assert handle.wait(timeout=20)
    assert handle.result == "well"
    assert [entry.attempt for entry in journal.starts(handle.id)] == [1, 2]
    assert [entry.error for entry in journal.ends(handle.id)] == ["HttpError", ""]
    worker.terminate()
    assert worker.wait() == 0


def test_journal_lines_are_read_by_job(journal: Journal) -> None:
    write(str(journal), "started", job="a", attempt=1)
    write(str(journal), "started", job="b", attempt=1)
    write(str(journal), "ended", job="a", attempt=1, error="ValueError")
    assert [entry.job for entry in journal.wait_for_starts(2)] == ["a", "b"]
    assert journal.ends("a")[0].error == "ValueError"
    assert not journal.ends("b")


def test_the_databases_are_not_those_of_a_person() -> None:
    assert all(
        "test" in str(connections[alias].settings_dict["TEST"]["NAME"]) for alias in connections
    )
