"""Old and new code at the same time: what the old workers do not know waits for the new ones."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from wellos_jobs import broker
from wellos_jobs.broker import keys
from wellos_jobs.definitions import registry
from wellos_jobs.enqueueing.enqueue import enqueue_bulk
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
    """Enqueue ``RATE`` jobs a second, half of them of the new code; return how many."""
    count, start = 0, time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        due = int(passed * RATE) - count
        if due >= 10:
            _enqueue("old", code_versions.OLD, count, due // 2)
            _enqueue("new", code_versions.NEW, count, due - due // 2)
            count += due
        time.sleep(0.01)  # the rate
    return count


def _enqueue(code: str, kinds: Mapping[str, Mapping[str, Any]], first: int, count: int) -> None:
    chosen = itertools.islice(itertools.cycle(kinds.items()), first % 3, first % 3 + count)
    with registry.isolated():
        code_versions.declare(code)
        enqueue_bulk([(name, data, None) for name, data in chosen])
