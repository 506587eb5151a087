"""Real processes for tests: ``manage.py rqworker`` and others, on the databases and the Redis of
the running test.

A ``Fleet`` (the fixture ``processes``) starts them, reads their logs, and kills whatever is left,
children and all, at the end of the test. Waiting is always ``wait_until`` with a deadline.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from . import test_run
from .fork_server import ForkedProgram, ForkServer, fork_server_for
from .process_reaper import undertaker

PROJECT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.02
LOG_LINES = 60
T = TypeVar("T")


class Process:
    """One program, the leader of a process group of its own, with its output in a file."""

    def __init__(
        self,
        arguments: Iterable[str],
        environment: Mapping[str, str],
        log: Path,
        server: ForkServer | None = None,
    ) -> None:
        self.arguments = list(arguments)
        self.log_path = log
        self._orphans: list[int] = []
        self._process = (
            server.start(self.arguments[1:], log) if server else self._start(environment)
        )
        undertaker().watch(self.pid)

    def __repr__(self) -> str:
        return f"<Process {self.pid} {' '.join(self.arguments[1:])}>"

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | ForkedProgram:
        with self.log_path.open("ab") as output:
            return subprocess.Popen(
                self.arguments,
                cwd=PROJECT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status (minus the signal that killed it), None while it runs."""
        return self._process.poll()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def children(self) -> list[int]:
        """Return the pids of its living children, oldest first."""
        return children_of(self.pid)

    def signal(self, number: int) -> None:
        """Send a signal to this process alone, not to its children."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def kill9(self) -> None:
        """Kill this process alone, and wait until it has gone."""
        self._orphans += self.children()
        self.signal(signal.SIGKILL)
        self._process.wait(10)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for the end; return the exit status."""
        wait_until(lambda: not self.is_running(), timeout, f"{self} to end", [self])
        return self._process.wait(1)

    def output(self) -> str:
        """Return all it has written so far."""
        return self.log_path.read_text(errors="replace")

    def wait_for_output(self, text: str, timeout: float = 20.0) -> str:
        """Wait until the output contains ``text``; return the output. Waits no longer when the
        process has ended."""

        def look() -> str:
            ended = not self.is_running()  # before the output is read: it writes nothing afterwards
            output = self.output()
            return output if ended or text in output else ""

        what = f"{text!r} in the output"
        output = wait_until(look, timeout, what, [self])
        assert text in output, (
            f"{self} ended (exit status {self.exit_status}) without {what}:\n{_tail(self)}"
        )
        return output

    def end(self) -> None:
        """Kill what is left of it and of its children, each with the process group that it leads.

        A supervisor's workers lead groups of their own, and may be stopped by a signal.
        """
        for leader in (self.pid, *self.children(), *self._orphans):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        self._process.wait(10)
        undertaker().forget(self.pid)


class Fleet:
    """The processes of one test. ``environment`` is what each is started with, on top of the test
    bed's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}
        self.all: list[Process] = []

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> Process:
        """Start ``python ...`` (this Python).

        Mostly it is a fork of a process that has imported the app; a ``fresh`` one imports
        everything anew.
        """
        log = self.folder / f"process-{len(self.all)}.log"
        merged = {**test_run.child_environment(), **self.environment, **(environment or {})}
        server = None if fresh else fork_server_for(merged)
        process = Process([sys.executable, *arguments], merged, log, server)
        self.all.append(process)
        return process

    def manage(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start ``manage.py ...``."""
        return self.start("manage.py", *arguments, environment=environment)

    def worker(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start ``manage.py rqworker ...``."""
        return self.manage("rqworker", *arguments, environment=environment)

    def wait_until(self, predicate: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
        """``wait_until`` whose failure shows the logs of all these processes."""
        return wait_until(predicate, timeout, what, self.all)

    def end(self) -> None:
        """Kill everything."""
        for process in self.all:
            process.end()


def wait_until(
    predicate: Callable[[], T],
    timeout: float = 10.0,
    what: str = "",
    processes: Iterable[Process] = (),
) -> T:
    """Call ``predicate`` until it returns something true, and return that.

    Raises:
        AssertionError: it did not within ``timeout`` seconds; the text has what it returned last,
            and the ends of
            the logs of ``processes``. An AssertionError of the predicate counts as "not yet".
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            last = value = predicate()
            if value:
                return value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    logs = "".join(
        f"\n\n{process!r}, exit status {process.exit_status}:\n{_tail(process)}"
        for process in processes
    )
    raise AssertionError(f"waited {timeout:g} s in vain for {what or 'it'}; last: {last!r}{logs}")


def _tail(process: Process) -> str:
    return "\n".join(process.output().splitlines()[-LOG_LINES:])


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    return any(found == pid and state != "Z" for found, _parent, state in _table())


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's living children, oldest first."""
    return sorted(child for child, parent, state in _table() if parent == pid and state != "Z")


def _table() -> list[tuple[int, int, str]]:
    """Return (pid, parent's pid, state) of every process on this machine."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(
            ["ps", "-Ao", "pid=,ppid=,state="], capture_output=True, text=True, check=True
        )
        rows = (line.split() for line in listing.stdout.splitlines())
        return [(int(pid), int(parent), state[0]) for pid, parent, state in rows]
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                found.append((int(folder.name), int(parent), state))
    return found
