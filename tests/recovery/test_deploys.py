"""Old and new code at the same time: what the old workers do not know waits for the new ones."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import redis

from wellos_jobs import broker, enqueue
from wellos_jobs.broker import keys
from wellos_jobs.definitions import registry
from wellos_jobs.models import DeadLetter, JobAttempt, JobRecord

from ..support import code_versions
from ..support.processes import Fleet, Process

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("processes"),
]

SECONDS = float(os.environ.get("WELLOS_MIX_SECONDS", "3"))
RATE = 100
"""Jobs a second, half of them of the new code."""


def worker(fleet: Fleet, code: str) -> Process:
    return fleet.worker("--processes", "2", environment={"WELLOS_TEST_CODE": code})


@pytest.mark.timeout(SECONDS * 3 + 90)
def test_no_job_fails_and_no_attempt_is_lost_while_old_and_new_workers_run(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    before = worker(processes, "old")
    enqueue_both(0.5)
    worker(processes, "new")
    other = worker(processes, "old")
    count = enqueue_both(SECONDS / 2)
    before.terminate()  # a rolling restart
    worker(processes, "new")
    count += enqueue_both(SECONDS / 2)
    open_jobs = JobRecord.objects.exclude(state="completed")
    processes.wait_until(lambda: not open_jobs.exists(), 30 + SECONDS, "all jobs to complete")

    assert other.is_running() and count >= SECONDS * RATE / 2
    refused = {
        broker.text(code).partition("@")[0]
        for key in redis_client.scan_iter(keys.unknown("*"))
        for code in redis_client.hkeys(key)
    }
    assert refused == code_versions.NEW.keys()
    assert not DeadLetter.objects.exists() and not JobAttempt.objects.exists()
    assert set(JobRecord.objects.values_list("attempts", flat=True)) == {1}


def enqueue_both(seconds: float) -> int:
    """Enqueue ``RATE`` jobs a second, those of the old and of the new code in turn; return how
    many."""
    count, start = 0, time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        while count < passed * RATE:
            _enqueue("new" if count % 2 else "old", count)
            count += 1
        time.sleep(0.005)  # the rate
    return count


def _enqueue(code: str, number: int) -> None:
    kinds: list[tuple[str, dict[str, Any]]] = list(
        (code_versions.NEW if code == "new" else code_versions.OLD).items()
    )
    name, data = kinds[number // 2 % len(kinds)]
    with registry.isolated():
        code_versions.declare(code)
        enqueue(name, data)
