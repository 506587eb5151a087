"""Coordination by real workers: limits over a cluster, workers killed while they hold, Redis
emptied in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from wellos_jobs import Batch, Flow, JobHandle, operations
from wellos_jobs.broker import keys
from wellos_jobs.models import Batch as Row
from wellos_jobs.models import JobAttempt, JobRecord

from ..jobs import noop, scripted
from ..support.guarded_jobs import double, limited, needs, partner, single, summary
from ..support.journal import Journal
from ..support.processes import Fleet
from ..support.rows import all_have_state, has_state

pytestmark = [pytest.mark.processes, pytest.mark.any_database]


def most_at_once(journal: Journal, deaths: Mapping[int, float] | None = None) -> int:
    """The largest number of runs that were under way at one time, by what the runs noted
    themselves.

    ``deaths`` says when the worker of a run that noted no end was killed.
    """
    ends = {(entry.job, entry.attempt): entry.at for entry in journal.ends()}
    moments = []
    for entry in journal.starts():
        end = ends.get((entry.job, entry.attempt)) or (deaths or {})[entry.pid]
        moments += [(entry.at, 1), (max(entry.at, end), -1)]
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


def ready(processes: Fleet, *arguments: str) -> Any:
    """A worker that has taken a first job."""
    worker = processes.worker(*arguments)
    first = noop.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    JobRecord.objects.all().delete()
    return worker


def test_limited_job_over_four_workers(processes: Fleet, journal: Journal) -> None:
    """Two at once and ten a second: 100 jobs take ten seconds, and no attempt is burnt."""
    ready(processes, "--processes", "2")
    ready(processes, "--processes", "2")
    begun = time.time()
    limited.enqueue_bulk([{"steps": ["sleep:0.05"], "journal": str(journal)}] * 100)
    journal.wait_for_ends(100, timeout=90)
    took = max(entry.at for entry in journal.starts()) - begun
    processes.wait_until(lambda: all_have_state("completed", 100), 60)
    assert most_at_once(journal) <= 2
    claimed = sorted(
        at.timestamp() for at in JobRecord.objects.values_list("started_at", flat=True)
    )  # by Redis
    spans = [later - earlier for earlier, later in zip(claimed, claimed[10:], strict=False)]
    assert min(spans) > 0.95, min(spans)
    print(f"100 jobs at ten a second: the last started after {took:.2f} s")
    assert 8.9 < took < 11.5
    assert set(JobRecord.objects.values_list("attempts", flat=True)) == {1}
    assert JobAttempt.objects.count() == 0


def test_workers_killed_while_they_hold_slots(processes: Fleet, journal: Journal) -> None:
    """Never more than two at once, and no slot is lost: all the others run."""
    ready(processes, "--processes", "3")
    rows = [
        {"steps": ["on:1:kill"] if n % 5 == 0 else ["sleep:0.02"], "journal": str(journal)}
        for n in range(30)
    ]
    double.enqueue_bulk(rows)
    processes.wait_until(lambda: all_have_state("completed", 30), 40)
    assert Counter(JobRecord.objects.values_list("attempts", flat=True)) == {1: 24, 2: 6}


def test_the_limit_holds_while_workers_are_killed(processes: Fleet, journal: Journal) -> None:
    """A thousand jobs over four workers, one of which dies every moment. 10,000:
    benchmarks/coordination.py."""
    worker = ready(processes, "--processes", "4")
    enqueued: list[JobHandle] = []

    def enqueue(count: int) -> None:
        rows = [{"steps": ["sleep:0.002"], "journal": str(journal)}] * count
        enqueued.extend(double.using(max_attempts=50).enqueue_bulk(rows))

    enqueue(1_000)
    journal.wait_for_starts(4)
    deaths: dict[int, float] = {}

    def kill_one() -> bool:
        ran = {entry.pid for entry in journal.starts()[-20:]} & set(worker.children())
        if ran and len(deaths) < 15:
            pid = min(ran)
            deaths[pid] = time.time()
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
        assert all_have_state("completed", len(enqueued))
        if len(deaths) < 15:  # the jobs end faster than this finds somebody to kill
            enqueue(100)
        return len(deaths) == 15

    processes.wait_until(kill_one, 90)
    assert most_at_once(journal, deaths) <= 2


def test_idle_workers_do_not_busy_loop_at_a_full_limit(
    processes: Fleet, journal: Journal, redis_client: Any
) -> None:
    """1,000 jobs wait at a limit that is full: four idle workers and their supervisor say next to
    nothing."""
    ready(processes, "--processes", "4")
    held = single.enqueue(steps=[f"wait_file:{journal.path}.go"], journal=str(journal))
    journal.wait_for_starts(1, held)
    single.enqueue_bulk([{}] * 1_000)
    processes.wait_until(lambda: redis_client.zcard(keys.parked("c:test-single")) == 1_000)
    before, begun = redis_client.info("stats")["total_commands_processed"], time.monotonic()
    scripts = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]
    processes.wait_until(lambda: time.monotonic() - begun > 3)
    called = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"] - scripts
    commands = redis_client.info("stats")["total_commands_processed"] - before
    print(f"{called} scripts and {commands} commands in 3 s")
    assert called < 60
    noop.enqueue().wait(5)
    journal.path.with_name(f"{journal.path.name}.go").touch()
    processes.wait_until(lambda: redis_client.zcard(keys.parked("c:test-single")) < 900)


def test_a_free_slot_is_taken_at_once(processes: Fleet, journal: Journal) -> None:
    ready(processes, "--processes", "2")
    single.enqueue_bulk([{"steps": ["sleep:0.2"], "journal": str(journal)}] * 5)
    journal.wait_for_ends(5)
    starts = [entry.at for entry in journal.starts()][1:]
    gaps = [start - end.at for start, end in zip(starts, journal.ends(), strict=False)]
    print(f"from the end of one to the start of the next: {max(gaps) * 1000:.0f} ms at most")
    assert max(gaps) < 0.5 and most_at_once(journal) == 1


def test_the_worker_of_a_probe_is_killed(
    processes: Fleet, journal: Journal, redis_client: Any
) -> None:
    ready(processes, "--processes", "2")
    operations.trip_breaker("partner")
    probe = partner.enqueue(steps=["on:1:kill"], journal=str(journal))
    others = partner.enqueue_bulk([{"journal": str(journal)}] * 5)
    processes.wait_until(lambda: redis_client.zcard(keys.parked("b:partner")) == 6)
    redis_client.hset(keys.breaker("b:partner"), "until", 0)
    redis_client.zadd(keys.GATES, {"b:partner": 0})
    noop.enqueue()
    processes.wait_until(
        lambda: all(has_state(handle, "completed") for handle in [probe, *others]), 30
    )
    assert not redis_client.exists(keys.breaker("b:partner"))


def test_redis_emptied_in_the_middle(
    processes: Fleet, journal: Journal, redis_client: redis.Redis
) -> None:
    """Of a flow, of a batch and with parked jobs: everything completes, callbacks run, results are
    there."""
    ready(processes, "--processes", "2")
    flow = Flow(
        scripted.with_data(steps=["sleep:0.5", "result:top"]),
        children=[
            Flow(needs.with_data(), children=[needs.with_data()]),
            scripted.with_data(steps=["sleep:0.1"]),
        ],
    ).enqueue()
    with Batch(
        name="import", on_complete=summary.with_data(), on_success=summary.with_data()
    ) as batch:
        batch.enqueue_bulk(scripted, [{"steps": ["sleep:0.02"], "journal": str(journal)}] * 30)
    parked = single.enqueue_bulk([{"steps": ["sleep:0.05"]}] * 10)
    journal.wait_for_ends(5)
    redis_client.flushall()
    processes.wait_until(lambda: flow.wait(0) and batch.wait(0), 60)
    processes.wait_until(lambda: all(has_state(handle, "completed") for handle in parked), 60)
    processes.wait_until(lambda: all_have_state("completed", 4 + 30 + 10 + 2), 60)
    assert flow.handles[1].result == ["top"]
    assert Row.objects.get().completed == 30


def test_flow_and_batch_with_workers_killed_and_two_supervisors(
    processes: Fleet, journal: Journal
) -> None:
    ready(processes, "--processes", "2")
    ready(processes, "--processes", "2")
    with Batch(
        name="import", on_complete=summary.with_data(), on_success=summary.with_data()
    ) as batch:
        batch.enqueue_bulk(
            scripted, [{"steps": ["on:1:kill"] if n % 10 == 0 else []} for n in range(40)]
        )
    flow = Flow(
        needs.with_data(),
        children=[scripted.with_data(steps=["on:1:kill", f"result:{n}"]) for n in range(4)],
        order="children_first",
    ).enqueue()
    processes.wait_until(lambda: batch.wait(0) and flow.wait(0), 40)
    assert sorted(flow.handles[0].result) == ["0", "1", "2", "3"]
    processes.wait_until(lambda: all_have_state("completed", 40 + 5 + 2))
    assert set(
        JobRecord.objects.filter(name="test-summary").values_list("attempts", flat=True)
    ) == {1}


def test_a_chain_of_jobs_is_quick(processes: Fleet, journal: Journal) -> None:
    ready(processes, "--processes", "2")
    flow = Flow(noop.with_data())
    for _ in range(29):
        flow = Flow(noop.with_data(), children=[flow])
    begun = time.monotonic()
    handle = flow.enqueue()
    processes.wait_until(lambda: handle.wait(0), 40)
    print(f"a chain of 30 took {time.monotonic() - begun:.1f} s")
