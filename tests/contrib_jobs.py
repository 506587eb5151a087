"""Report types and sources of cleanups of the test project, some of which end their worker."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from wellos_jobs import current_job
from wellos_jobs.contrib import reports


def numbers(days: reports.DateRange) -> list[dict[str, int]]:
    return [{"number": number} for number in range(10)]


def kill_the_first_time(*_: Any) -> None:
    """Kill the own process with -9 in the first attempt: the file is stored by then, the job has not ended."""
    if current_job().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # the signal may take a moment


reports.register(
    "test-numbers",
    title="Numbers",
    fetch=numbers,
    columns={"number": "Number"},
    render=lambda title, days, content: f"attempt {current_job().attempt}".encode(),
    notify=kill_the_first_time,
)
