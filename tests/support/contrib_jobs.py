"""A report type and a source of a cleanup of the test project: one ends its worker, the other takes
its time."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from django.contrib.sessions.models import Session
from django.db.models import QuerySet

from wellos_jobs import current_job
from wellos_jobs.contrib import cleanup, reports


def numbers(days: reports.DateRange) -> list[dict[str, int]]:
    return [{"number": number} for number in range(10)]


def kill_the_first_time(*_: Any) -> None:
    """Kill the own process with -9 in the first attempt: the file is stored by then, the job has
    not ended."""
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


class SlowQuerySet(QuerySet[Session]):
    """Takes a moment for each delete, in which a test can kill its worker."""

    def delete(self) -> tuple[int, dict[str, int]]:
        time.sleep(0.1)
        return super().delete()


if os.environ.get("WELLOS_TEST_SLOW_CLEANUP"):
    cleanup.register_expired_tokens(lambda now: SlowQuerySet(Session).filter(expire_date__lt=now))
