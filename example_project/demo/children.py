"""The demo's child processes. Each has its own session, logs to a file and ends with the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from example_project import keyring, tether

STOP_SECONDS = 30.0


class Child:
    """A Python program that runs until ``stop``. It gets SIGTERM if the demo dies."""

    def __init__(self, name: str, arguments: Sequence[str], **environment: str) -> None:
        self.name = name
        self.log = keyring.folder() / f"{name}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                tether.command([sys.executable, *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=keyring.PROJECT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                # so that Ctrl-C reaches only the demo, which stops its children in order
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def check_alive(self) -> None:
        """Raise ChildEnded if the process has ended."""
        status = self.process.poll()
        if status is not None:
            raise ChildEnded(
                f"The {self.name} ended with status {status}. "
                f"The last lines of {self.log}:\n{tail(self.log)}"
            )

    def stop(self) -> None:
        """Terminate the process and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ChildEnded(RuntimeError):
    """A child process of the demo ended unexpectedly."""


def tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
