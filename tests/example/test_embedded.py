"""The example's embedded Redis, its tether and secrets, and database URLs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from example_project import database, redis_urls, tether

from ..support import demo_process
from ..support.processes import PROJECT, Process, is_alive, wait_until

HOLD = """
import time
from example_project import embedded
server = embedded.ensure()
print("pid", server.process.pid if server else "of another", flush=True)
time.sleep(60)
"""


def python(folder: Path, code: str, name: str = "python") -> Process:
    """Start Python in the example's environment on ``folder``."""
    return Process(
        [sys.executable, "-c", code],
        demo_process.environment(folder),
        folder.parent / f"{name}.out",
    )


def pid_of_server(process: Process) -> int:
    return int(process.wait_for_output("pid ").split()[1])


def url_of(folder: Path) -> str:
    password = (folder / "secrets" / "valkey").read_text()
    return f"redis://:{password}@127.0.0.1:{(folder / 'valkey' / 'port').read_text()}/0"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_the_process_that_started_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    holder = python(tmp_path / "state", HOLD)
    try:
        server = pid_of_server(holder)
        assert is_alive(server)
        holder.signal(number)
        wait_until(lambda: not is_alive(server), 15, "the end of the server")
    finally:
        holder.end()


def test_it_listens_on_loopback_with_a_password_and_persists_data(tmp_path: Path) -> None:
    holder = python(tmp_path / "state", HOLD)
    server = pid_of_server(holder)
    url = url_of(tmp_path / "state")
    with redis.Redis.from_url(url) as client:
        assert client.config_get("bind", "maxmemory-policy") == {
            "bind": "127.0.0.1",
            "maxmemory-policy": "noeviction",
        }
        client.set("kept", "yes")
    stranger = redis.Redis(port=int(url.rpartition(":")[2].partition("/")[0]))
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    holder.kill9()
    wait_until(lambda: not is_alive(server), 15, "the end of the server")
    again = python(tmp_path / "state", HOLD, "again")
    try:
        pid_of_server(again)
        assert url_of(tmp_path / "state") == url
        with redis.Redis.from_url(url) as client:
            assert client.get("kept") == b"yes"
    finally:
        again.end()


def test_two_concurrent_commands_start_one_server(tmp_path: Path) -> None:
    both = [python(tmp_path / "state", HOLD, f"holder-{number}") for number in range(2)]
    try:
        said = [process.wait_for_output("pid ").split("pid ")[1].strip() for process in both]
        assert sorted(text.isdigit() for text in said) == [False, True]
    finally:
        for process in both:
            process.end()


def test_a_port_in_use_is_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        folder = tmp_path / "state" / "valkey"
        folder.mkdir(parents=True)
        (folder / "port").write_text(str(taken.getsockname()[1]))
        holder = python(tmp_path / "state", HOLD)
        try:
            pid_of_server(holder)
            with redis.Redis.from_url(url_of(tmp_path / "state")) as client:
                assert client.ping()
            assert (folder / "port").read_text() != str(taken.getsockname()[1])
        finally:
            holder.end()


def test_commands_without_redis_do_not_start_the_server(tmp_path: Path) -> None:
    process = demo_process.manage(tmp_path / "state", "check")
    assert process.wait(60) == 0, process.output()
    assert not (tmp_path / "state" / "valkey" / "valkey.conf").exists()


def test_a_forked_child_does_not_stop_its_parents_server(tmp_path: Path) -> None:
    code = HOLD.replace(
        "time.sleep(60)", "import os\nif os.fork() == 0: raise SystemExit\nos.wait()\nprint('done')"
    )
    code += "\nassert embedded.is_running()\nprint('still there', flush=True)"
    process = python(tmp_path / "state", code)
    assert process.wait(30) == 0, process.output()
    assert "still there" in process.output()


def test_all_processes_have_the_same_secret(tmp_path: Path) -> None:
    code = (
        "import secrets\n"
        "from example_project import keyring\n"
        "print(keyring.secret('x', secrets.token_hex))"
    )
    together = [python(tmp_path / "state", code, f"process-{number}") for number in range(4)]
    assert [process.wait(30) for process in together] == [0] * 4
    assert len({process.output() for process in together}) == 1
    assert [path.name for path in (tmp_path / "state" / "secrets").iterdir()] == ["x"]


# --- tether ---------------------------------------------------------------------------------------

PARENT = """
import subprocess, sys, time
from example_project import tether
child = subprocess.Popen({command})
print("pid", child.pid, flush=True)
time.sleep(60)
"""
WATCHED = """
import os, signal, sys
from example_project import tether
print("pid", os.getpid(), flush=True)
sys.exit(tether.watch(os.getppid(), signal.SIGKILL, [sys.executable, "-c", {program!r}]))
"""
SLEEP = "import os, time; print('program', os.getpid(), flush=True); time.sleep(60)"


def program_of(process: Process) -> int:
    return int(process.wait_for_output("program ").split("program ")[1].split()[0])


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(f"tether.command([sys.executable, '-c', {SLEEP!r}])", id="the-program-itself"),
        pytest.param(f"[sys.executable, '-c', {WATCHED.format(program=SLEEP)!r}]", id="watched"),
    ],
)
def test_a_tethered_program_ends_with_its_parent(command: str, tmp_path: Path) -> None:
    """On systems without a parent death signal, the watcher polls the parent."""
    parent = python(tmp_path / "state", PARENT.format(command=command))
    try:
        program = program_of(parent)
        parent.kill9()
        wait_until(lambda: not is_alive(program), 10, "the end of the program")
    finally:
        parent.end()


def test_the_watcher_forwards_signals_and_returns_the_status() -> None:
    obey = "signal.signal(15, lambda *_: sys.exit(7))"
    program = f"import signal, sys, time\n{obey}\nprint('ready', flush=True)\ntime.sleep(60)"
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHED.format(program=program)], cwd=PROJECT, stdout=subprocess.PIPE
    )
    assert watcher.stdout is not None
    with watcher.stdout:
        assert watcher.stdout.readline() == b"pid %d\n" % watcher.pid
        assert watcher.stdout.readline() == b"ready\n"
        watcher.terminate()
        assert watcher.wait(10) == 7


def test_a_program_whose_parent_died_first_does_not_start() -> None:
    command = tether.command([sys.executable, "-c", "print('started')"])
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


# --- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://localhost:6379", "redis://localhost:6379/1"),
        ("redis://localhost:6379/", "redis://localhost:6379/1"),
        ("redis://:pass%2Fword@host:6380/4", "redis://:pass%2Fword@host:6380/5"),
        ("rediss://user:p@host/0?ssl_cert_reqs=none", "rediss://user:p@host/1?ssl_cert_reqs=none"),
        ("redis://host/?db=2", "redis://host/?db=3"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock?db=1"),
        ("unix://user:p@/run/valkey.sock?db=3", "unix://user:p@/run/valkey.sock?db=4"),
    ],
)
def test_the_jobs_live_in_the_next_logical_database(url: str, wanted: str) -> None:
    assert redis_urls.next_database(url) == wanted
    pool = redis.ConnectionPool.from_url(wanted)
    assert pool.connection_kwargs["db"] == int(
        wanted.partition("db=")[2] or wanted.partition("?")[0][-1]
    )


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (
            "postgres://me:p%40ss@db.example:5433/wellos?sslmode=require",
            {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "wellos",
                "USER": "me",
                "PASSWORD": "p@ss",
                "HOST": "db.example",
                "PORT": 5433,
                "OPTIONS": {"sslmode": "require"},
            },
        ),
        (
            "postgresql:///wellos",
            {"ENGINE": "django.db.backends.postgresql", "NAME": "wellos", "HOST": "", "PORT": ""},
        ),
        (
            "mysql://root@127.0.0.1/wellos",
            {"ENGINE": "django.db.backends.mysql", "NAME": "wellos", "USER": "root"},
        ),
        (
            "sqlite:////var/lib/wellos.db",
            {"ENGINE": "django.db.backends.sqlite3", "NAME": "/var/lib/wellos.db"},
        ),
        ("sqlite:///wellos.db", {"NAME": "wellos.db", "OPTIONS": database.SQLITE_OPTIONS}),
    ],
)
def test_database_urls(url: str, wanted: dict[str, Any]) -> None:
    entry = database.from_url(url)
    assert {key: entry[key] for key in wanted} == wanted


def test_an_unknown_database_is_refused() -> None:
    with pytest.raises(ValueError, match="DATABASE_URL starts with 'oracle'"):
        database.from_url("oracle://x/y")
