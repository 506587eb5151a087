"""The clock in real processes: killed, stopped, without Redis, without the database.

Every tick is made exactly once.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from wellos_jobs.cron import Every, next_runs
from wellos_jobs.models import JobRecord, Schedule
from wellos_jobs.scheduler import scheduler_of
from wellos_jobs.schedules import update_schedule
from wellos_jobs.schedules.clock import DatabaseSchedules

from ..jobs import noop
from ..support import test_run
from ..support.outages import DatabaseOutage
from ..support.processes import Fleet, Process, wait_until
from ..support.rows import all_have_state
from ..support.rq_functions import note
from ..support.schedules import at, due_times, every, make
from ..support.servers import RedisServer

KILLING = 62.0
"""Seconds for which processes are killed."""

LEADING = "clock: leading"


def empty_database(folder: Path) -> str:
    """The URL of a database without any table."""
    return f"sqlite:///{folder / 'empty.sqlite3'}"


class Pair:
    """Two processes of one kind, repeatedly killed with -9 and restarted."""

    def __init__(self, start: Callable[[], Process], chance: random.Random) -> None:
        self.start = start
        self.chance = chance
        self.alive = [start(), start()]
        self.kills = 0
        self._next = time.monotonic() + 6

    def act(self) -> None:
        """Kill one if it is time: the whole process, or only the child in which the clock runs."""
        if time.monotonic() < self._next:
            return
        number = self.chance.randrange(2)
        victim, children = self.alive[number], self.alive[number].children()
        if children and self.chance.random() < 0.4:
            os.kill(self.chance.choice(children), signal.SIGKILL)
        else:
            victim.kill9()
            self.alive[number] = self.start()
        self.kills += 1
        self._next = time.monotonic() + self.chance.uniform(0.5, 4.5)


# --- killed for a minute --------------------------------------------------------------------------

SPRING = ("2026-03-08 03:00", "2026-03-09 06:00")
AUTUMN = ("2026-11-01 03:00", "2026-11-02 06:00")
LINES = (
    "*/5 * * * *",
    "0 * * * *",
    "*/15 1-3 * * *",
    "30 2 * * *",
    "30 1 * * *",
    "0 8 * * *",
    "@every 100",
)


def schedules_on_the_edge(
    window: tuple[str, str], name: str, database: str
) -> dict[str, list[datetime]]:
    """Store schedules over a clock change of New York; return the runs that each must make."""
    begin, end = at(window[0]), at(window[1])
    expected = {}
    for line in LINES:
        runs = [run.astimezone(UTC) for run in next_runs(line, "America/New_York", begin, 2_000)]
        expected[f"{name} {line}"] = [run for run in runs if run <= end - timedelta(hours=1)]
        Schedule(
            name=f"{name} {line}",
            cron=line,
            time_zone="America/New_York",
            job_name="test-noop",
            catch_up="all",
            catch_up_limit=5_000,
            next_run_at=runs[0],
            ends_at=end - timedelta(hours=1),
        ).save(using=database)
    return expected


@pytest.mark.system
@pytest.mark.timeout(200)
def test_two_clocks_under_kill_9_for_a_minute(
    processes: Fleet, redis_server: RedisServer, tmp_path: Path
) -> None:
    """`rqscheduler` with a schedule every second; and, on another Redis and database, moved clocks
    over both clock changes.

    Each Redis is restarted empty in between. Every due time is one job, and each job of the first
    database runs.
    """
    chance = random.Random(20261124)
    urls = test_run.child_environment()
    with RedisServer(tmp_path / "other-redis") as other_redis:
        here = {"OTHER_DATABASE_URL": empty_database(tmp_path)}
        there = {**here, "DATABASE_URL": urls["OTHER_DATABASE_URL"], "REDIS_URL": other_redis.url}
        expected = schedules_on_the_edge(SPRING, "spring", "other") | schedules_on_the_edge(
            AUTUMN, "autumn", "other"
        )
        edges = [str(time.time() + 5), str((KILLING - 12) / 2), *SPRING, *AUTUMN]
        make(
            "every second", Every(1), catch_up="all"
        )  # a busy machine may leave a minute without a clock
        make("every second, too", "* * * * * *", catch_up="all")
        processes.worker(environment=here)
        pairs = [
            Pair(lambda: processes.manage("rqscheduler", environment=here), chance),
            Pair(
                lambda: processes.start(
                    "-m", "tests.support.run_scheduler", *edges, environment=there
                ),
                chance,
            ),
        ]
        processes.wait_until(lambda: len(due_times("every second")) >= 2, 30)
        restarts = [
            (time.monotonic() + KILLING / 2, redis_server),
            (time.monotonic() + KILLING / 3, other_redis),
        ]
        until = time.monotonic() + KILLING

        def go_on() -> bool:
            for pair in pairs:
                pair.act()
            while restarts and time.monotonic() > restarts[-1][0]:
                restarts.pop()[1].restart(empty=True)
            return time.monotonic() > until

        processes.wait_until(go_on, KILLING + 30)
        print(f"{pairs[0].kills} kills of rqscheduler, {pairs[1].kills} of moved clocks")
        assert min(pair.kills for pair in pairs) >= 12
        now = timezone.now()
        for name in ("every second", "every second, too"):
            processes.wait_until(lambda name=name: due_times(name)[-1] >= now, 20)  # type: ignore[misc]
            found = due_times(name)
            assert found == every(1, found[0], len(found)), f"{name}: a tick twice, or one missing"
            assert len(found) >= KILLING
        for name, runs in expected.items():
            processes.wait_until(
                lambda n=name, r=runs: len(due_times(n, "other")) >= len(r), 20, name
            )  # type: ignore[misc]
            assert due_times(name, "other") == runs, name
        assert not Schedule.objects.exclude(missed=0).exists()
        for pair in pairs:
            for process in pair.alive:
                process.terminate()
        processes.wait_until(lambda: all_have_state("completed", JobRecord.objects.count()), 40)
        tracebacks = [process for process in processes.all if "Traceback" in process.output()]
        assert not tracebacks, tracebacks[0].output()


# --- exact, taken over, stopped -------------------------------------------------------------------


def lateness(name: str) -> list[float]:
    """Return how long after its due time each job of a schedule was made, in seconds."""
    jobs = JobRecord.objects.filter(schedule__name=name).values_list("run_at", "created_at")
    return [(created - due).total_seconds() for due, created in jobs]


def leader_of(pair: list[Process]) -> Process | None:
    return next((process for process in pair if LEADING in process.output()), None)


def test_exact_times_take_over_and_a_clean_end(processes: Fleet, redis_client: Any) -> None:
    """Exact below a second; takeover within ten seconds of a kill, at once after SIGTERM."""
    pair = [processes.manage("rqscheduler") for _ in range(2)]
    leader = processes.wait_until(lambda: leader_of(pair))
    standby = pair[1 - pair.index(leader)]
    standby.wait_for_output("clock started")

    # Exact: a run that is due before the clock would look by itself, and rq-scheduler's entries.
    begin = timezone.now() + timedelta(seconds=2)
    for number in range(6):
        make(f"soon {number}", Every(3600), starts_at=begin + timedelta(seconds=number * 0.11))
    due = begin.timestamp() + 0.15
    job = scheduler_of("default").enqueue_at(datetime.fromtimestamp(due, tz=UTC), note, 1)
    make("each second", Every(1))
    processes.wait_until(lambda: len(due_times("each second")) >= 4)
    late = sorted(
        lateness("each second") + [found for n in range(6) for found in lateness(f"soon {n}")]
    )
    print(f"ticks came {late[0] * 1000:.0f} to {late[-1] * 1000:.0f} ms after their time")
    assert len(late) >= 10
    assert late[0] >= 0, "never early"
    # A busy machine is late itself, now and then: only the better half counts.
    assert late[len(late) // 4] < 0.35, "a clock that polled each second would be later than this"
    assert late[-1] < 1.5
    enqueued_at = datetime.fromisoformat(
        redis_client.hget(job.key, "enqueued_at").decode()
    ).timestamp()
    assert 0 <= enqueued_at - due < 1.5

    # Take-over.
    killed = time.monotonic()
    leader.kill9()
    standby.wait_for_output(LEADING, 10)
    took = time.monotonic() - killed
    print(f"kill -9 of the leader to take-over {took:.1f} s")
    assert took < 10
    times = due_times("each second")
    assert times == every(1, times[0], len(times))

    # A clean end: between two passes, the lock given back, status 0.
    third = processes.manage("rqscheduler")
    third.wait_for_output("clock started")
    stopped = time.monotonic()
    standby.terminate()
    third.wait_for_output(LEADING, 5)
    took = time.monotonic() - stopped
    print(f"SIGTERM of the leader to take-over {took:.1f} s")
    assert took < 4
    assert standby.wait() == 0
    third.terminate()
    assert third.wait() == 0
    times = due_times("each second")
    assert times == every(1, times[0], len(times))
    assert not any("Traceback" in process.output() for process in processes.all)


# --- Redis away, the database away ----------------------------------------------------------------


def wait_for_retries(process: Process, line: str) -> None:
    """Wait until the clock has logged ``line`` five times: with growing pauses, for over a second.

    So a schedule that runs every second has missed a run.
    """
    wait_until(lambda: process.output().count(line) >= 5, 20, f"{line!r} five times", [process])


def test_redis_and_the_database_away_and_back(
    processes: Fleet, redis_server: RedisServer, database_outage: DatabaseOutage
) -> None:
    """The process survives and waits; runs that became due meanwhile are caught up."""
    make("every second", Every(1))
    process = processes.manage("rqscheduler")
    processes.wait_until(lambda: len(due_times("every second")) >= 2)
    with database_outage():
        wait_for_retries(process, "clock: database default is unavailable or refuses")
        back = timezone.now()
    processes.wait_until(lambda: due_times("every second")[-1] > back)
    redis_server.kill9()
    wait_for_retries(process, "clock: Redis is unavailable")
    redis_server.start()
    back = timezone.now()
    processes.wait_until(lambda: due_times("every second")[-1] > back)
    found = due_times("every second")
    assert found == every(1, found[0], len(found))
    assert not Schedule.objects.exclude(missed=0).exists()
    assert process.is_running()
    assert "Traceback" not in process.output()

    logged = process.output().count("clock: database default is unavailable")
    assert logged <= 8, "it does not fill the log"


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_database_away_or_without_tables_does_not_block_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And one whose tables come later is served from then on."""
    monkeypatch.setattr("wellos_jobs.schedules.clock.LOOK_FOR_TABLE_EVERY", 0.05)
    row = Schedule(
        name="there", cron="0 * * * *", job_name="test-noop", next_run_at=at("2026-03-01 12:00")
    )
    row.save(using="other")
    make("here", next_run_at=at("2026-03-01 12:00"))
    schedules = {
        name: DatabaseSchedules(name, time.time, "default") for name in ("default", "other")
    }
    with _without_table("other"):
        assert schedules["other"].serve(lambda: None) is None
        assert schedules["default"].serve(lambda: None) is not None
    deadline = time.monotonic() + 5
    while schedules["other"].serve(lambda: None) is None:
        assert time.monotonic() < deadline
    assert len(due_times("here")) == len(due_times("there", "other")) == 1

    with _without_table("other"):
        Schedule.objects.using("other").update(next_run_at=at("2026-03-01 13:00"))
        assert schedules["other"].serve(lambda: None) is None, "an error of this database alone"
        assert schedules["other"].serve(lambda: None) is None
    deadline = time.monotonic() + 5
    while schedules["other"].serve(lambda: None) is None:
        assert time.monotonic() < deadline
    assert Schedule.objects.using("other").get().next_run_at > timezone.now()  # type: ignore[operator]


@contextmanager
def _without_table(database: str) -> Iterator[None]:
    _rename(database, "wellos_jobs_jobrecord", "set_aside")
    try:
        yield
    finally:
        _rename(database, "set_aside", "wellos_jobs_jobrecord")


def _rename(database: str, table: str, name: str) -> None:
    with connections[database].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")


def test_a_running_clock_follows_changes(processes: Fleet) -> None:
    """Within the second, from any process; other jobs do not disturb it."""
    row = make("far", "0 0 1 1 *")
    process = processes.manage("rqscheduler")
    process.wait_for_output(LEADING)
    started = timezone.now() + timedelta(seconds=0.5)
    update_schedule("far", Every(3600), starts_at=started)
    processes.wait_until(lambda: due_times(row) == [started], 5)
    assert 0 <= lateness("far")[0] < 1.5
    assert noop.enqueue().state == "waiting"
