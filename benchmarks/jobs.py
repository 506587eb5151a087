"""The jobs that are measured."""

import os
import time
from pathlib import Path

from wellos_jobs import job


@job("benchmark-noop")
def noop() -> None:
    pass


def plain_noop() -> None:
    """The same for stock RQ."""


@job("benchmark-victim")
def victim(folder: str) -> None:
    """Write the pid and the moment of this run's start; the first run waits to be killed."""
    runs = Path(folder)
    first = not (runs / "1").exists()
    name = "1" if first else "2"
    part = runs / f"{name}.part"
    part.write_text(f"{os.getpid()} {time.time()}")
    part.rename(runs / name)
    while first:
        time.sleep(0.01)
