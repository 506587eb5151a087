"""The measured jobs."""

import json
import os
import time
from pathlib import Path

from wellos_jobs import Concurrency, current_job, job

MOST_LIMITED = 3


@job("benchmark-noop")
def noop() -> None:
    pass


def plain_noop() -> None:
    """The same for RQ's own worker."""


@job("benchmark-victim")
def victim(folder: str) -> None:
    """Write pid and start time of this run; the first run waits to be killed."""
    runs = Path(folder)
    first = not (runs / "1").exists()
    name = "1" if first else "2"
    part = runs / f"{name}.part"
    part.write_text(f"{os.getpid()} {time.time()}")
    part.rename(runs / name)
    while first:
        time.sleep(0.01)


@job("benchmark-limited", limits=[Concurrency(MOST_LIMITED)], max_attempts=50)
def limited(runs: str = "") -> None:
    """Append start and end of this run to a file."""
    note(runs, "started")
    time.sleep(0.003)
    note(runs, "ended")


def note(runs: str, event: str) -> None:
    run = current_job()
    line = json.dumps(
        {
            "event": event,
            "pid": os.getpid(),
            "at": time.time(),
            "job": str(run.id),
            "attempt": run.attempt,
        }
    )
    descriptor = os.open(runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(
            descriptor, f"{line}\n".encode()
        )  # one write: lines of several processes do not mix
    finally:
        os.close(descriptor)
