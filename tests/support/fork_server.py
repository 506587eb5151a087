"""Starts Python programs by forking a process that has Django and the app imported already.

Importing them takes a second of CPU, and the tests start hundreds of programs. A program runs
here as ``python`` would run it: in a session of its own, with its own arguments, output and
``__main__``, in the environment that the server was started with; it ends by the interpreter's own
way out. ``ForkServer`` is the test run's end of the pipe; run as a module, this file is the server.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from . import test_run
from .process_reaper import undertaker

READY = "ready"
OF_A_TEST = {"PYTEST_CURRENT_TEST", "DJANGO_ALLOW_ASYNC_UNSAFE"}
"""Variables that differ from test to test and say nothing to a program."""


class ForkedProgram:
    """One program. It has what is used here of ``subprocess.Popen``."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status (minus the signal that killed it), None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.status_of(self.pid, 0.0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the end.

        Raises:
            TimeoutError: it still runs.
        """
        if self.returncode is None:
            self.returncode = self._server.status_of(self.pid, timeout)
        if self.returncode is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkServer:
    """A server for one environment."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._ended: dict[int, int] = {}
        self._unread = b""
        assert self._next_line(60.0) == READY

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, arguments: Iterable[str], log: Path) -> ForkedProgram:
        """Start ``python <arguments>``, which appends its output to ``log``."""
        assert self._process.stdin is not None
        log.touch()
        order = json.dumps({"arguments": list(arguments), "log": str(log)})
        self._process.stdin.write(f"{order}\n".encode())
        self._process.stdin.flush()
        while True:
            line = self._next_line(30.0)
            if line is None:
                raise TimeoutError("the fork server does not answer")
            if (pid := self._read(line)) is not None:
                return ForkedProgram(self, pid)

    def status_of(self, pid: int, timeout: float) -> int | None:
        """Return the exit status of a program, waiting for it for some seconds; None while it
        runs."""
        while pid not in self._ended and (line := self._next_line(timeout)) is not None:
            self._read(line)
        return self._ended.pop(pid, None)

    def stop(self) -> None:
        """End the server. Its programs go on."""
        self._process.communicate()

    def _read(self, line: str) -> int | None:
        """Take in what the server says; return the pid of a program that was started."""
        word, pid, *status = line.split()
        if word == "started":
            return int(pid)
        self._ended[int(pid)] = int(status[0])
        return None

    def _next_line(self, timeout: float) -> str | None:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([output], [], [], timeout)[0]:
                return None
            if not (data := os.read(output, 65536)):
                raise ConnectionError("the fork server has ended")
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()


@cache
def _fork_server() -> tuple[dict[str, str], ForkServer]:
    """Start the fork server of this test process; return its environment and it."""
    environment = _stable(test_run.child_environment(test_run.at_start()))
    server = ForkServer(environment, Path(__file__).resolve().parents[2])
    undertaker().watch(server.pid)
    return environment, server


def fork_server_for(environment: Mapping[str, str]) -> ForkServer | None:
    """Return the fork server, if the programs that it starts have this environment."""
    own, server = _fork_server()
    return server if _stable(environment) == own else None


def _stable(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what belongs to the running test."""
    return {key: value for key, value in environment.items() if key not in OF_A_TEST}


# --- the server -----------------------------------------------------------------------------------


def serve() -> dict[str, Any] | None:
    """Fork for each order. Returns None at the end of the orders, and an order in its child."""
    wake_up, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    _say(READY)
    unread = b""
    while True:
        ready = select.select([0, wake_up], [], [])[0]
        if wake_up in ready:
            os.read(wake_up, 4096)
            _report_ends()
        if 0 not in ready:
            continue
        if not (data := os.read(0, 65536)):
            return None
        unread += data
        while b"\n" in unread:
            line, unread = unread.split(b"\n", 1)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(wake_up)
                os.close(woken)
                return json.loads(line)
            _say(f"started {pid}")


def _report_ends() -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            _say(f"ended {found[0]} {os.waitstatus_to_exitcode(found[1])}")


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def become(order: Mapping[str, Any]) -> None:
    """Make this process what ``python`` would be: its session, its files, its arguments."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, file in ((0, nothing), (1, log), (2, log)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(log)


def run(first: str, *arguments: str) -> None:
    """Run ``python <first> <arguments>``."""
    if first == "-m":
        sys.argv = list(arguments)
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        return
    if first == "-c":
        sys.argv = ["-c", *arguments[1:]]
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(arguments[0], "<string>", "exec"), main.__dict__)
        return
    sys.argv = [first, *arguments]
    runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    import django
    from django.core.management import load_command_class

    django.setup()
    for name in ("rqworker", "rqscheduler"):
        load_command_class("wellos_jobs", name)
    gc.collect()
    gc.freeze()
    if order := serve():
        become(order)
        run(*order["arguments"])
