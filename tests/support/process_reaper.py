"""Ends what a test run started when the run itself ends without having done so, also by kill -9.

A small process of its own reads the process ids to watch from a pipe. The pipe ends with the test
run, however that ended; then the undertaker kills what is left, each with its whole process group,
and removes the run's folders.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from functools import cache


class Undertaker:
    """The test run's end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            start_new_session=True,  # whoever kills the run's process group does not kill this one
        )

    def watch(self, pid: int) -> None:
        """Kill the process group that ``pid`` leads when this process has ended."""
        self._tell(f"+{pid}")

    def forget(self, pid: int) -> None:
        """``pid`` has ended and was waited for: its number may soon be another's."""
        self._tell(f"-{pid}")

    def remove(self, folder: str) -> None:
        """Remove ``folder``, an absolute path, when this process has ended and what it started is
        killed."""
        self._tell(folder)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def dismiss(self) -> None:
        """End the undertaker, which kills whatever is still watched."""
        self._process.communicate()


@cache
def _undertaker_of(_pid: int) -> Undertaker:
    return Undertaker()


def undertaker() -> Undertaker:
    """Return this process's undertaker, started on first use."""
    return _undertaker_of(os.getpid())


def main() -> None:
    watched: set[int] = set()
    folders = []
    for line in sys.stdin:
        if line.startswith("/"):
            folders.append(line.removesuffix("\n"))
        else:
            (watched.add if line[0] == "+" else watched.discard)(int(line[1:]))
    for pid in watched:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
