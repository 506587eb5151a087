"""What jobs write down while they run, in a file, so that a test can count runs over all
processes."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .processes import wait_until


def write(path: str | Path, event: str, **facts: Any) -> None:
    """Append one line. One ``write`` with O_APPEND: lines of several processes do not mix."""
    line = json.dumps({"event": event, "pid": os.getpid(), "at": time.time(), **facts})
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Entry:
    """One line: a run ``started`` or ``ended`` (however it ended; a killed process writes no
    end)."""

    event: str
    pid: int
    at: float
    job: str
    attempt: int
    error: str = ""


class Journal:
    """Reads such a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def entries(self, event: str, job: object = None) -> list[Entry]:
        """Return the entries of one event, of one job or of all, in the order in which they were
        written."""
        if not self.path.exists():
            return []
        lines = [Entry(**json.loads(line)) for line in self.path.read_text().splitlines()]
        return [
            entry
            for entry in lines
            if entry.event == event and (job is None or entry.job == str(job))
        ]

    def starts(self, job: object = None) -> list[Entry]:
        return self.entries("started", job)

    def ends(self, job: object = None) -> list[Entry]:
        return self.entries("ended", job)

    def wait_for_starts(
        self, count: int = 1, job: object = None, timeout: float = 20.0
    ) -> list[Entry]:
        """Wait until ``count`` runs have started; return them all."""
        what = f"{count} runs to start"
        return wait_until(lambda: len(found := self.starts(job)) >= count and found, timeout, what)

    def wait_for_ends(
        self, count: int = 1, job: object = None, timeout: float = 20.0
    ) -> list[Entry]:
        """Wait until ``count`` runs have ended; return them all."""
        what = f"{count} runs to end"
        return wait_until(lambda: len(found := self.ends(job)) >= count and found, timeout, what)
