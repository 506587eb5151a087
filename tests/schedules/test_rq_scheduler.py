"""rq-scheduler's API on our clock: its 21 known faults, each shown to be impossible here, and what
stays as it was."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import django_rq
import pytest
import redis
from django.test import override_settings
from django.utils import timezone
from django_rq.utils import get_scheduler_statistics
from rq import Callback
from rq.exceptions import NoSuchJobError
from rq.job import Dependency, Job
from rq.registry import ScheduledJobRegistry
from rq.serializers import JSONSerializer

from wellos_jobs import broker as store
from wellos_jobs.broker import keys
from wellos_jobs.broker.connection import script_digest
from wellos_jobs.errors import CronError, UnknownQueue, UnknownSchedule
from wellos_jobs.models import JobRecord
from wellos_jobs.scheduler import SCHEDULER_SET, Scheduler, scheduler_of
from wellos_jobs.schedules import clock as clock_module
from wellos_jobs.schedules.clock import Clock

from ..jobs import foreign_add
from ..support.engine import Books, Hand, work
from ..support.processes import Fleet, wait_until
from ..support.proxies import CuttingProxy
from ..support.rq_functions import CALLS, note
from ..support.schedules import MovedClock, at, every
from ..support.servers import RedisServer

pytestmark = pytest.mark.django_db(databases=["default", "other"])

NOON = at("2026-03-01 12:00")


@pytest.fixture(autouse=True)
def _ours(settings: Any) -> Iterator[None]:
    settings.RQ = {
        **settings.RQ,
        "COMMIT_MODE": "auto",
        "SCHEDULER_CLASS": "wellos_jobs.scheduler.Scheduler",
    }
    CALLS.clear()
    yield


@pytest.fixture
def moved() -> MovedClock:
    return MovedClock(NOON)


def scheduler_at(moved: Callable[[], float], queue: str = "default") -> Scheduler:
    """A scheduler that tells the time by a moved clock."""
    connection = django_rq.get_connection(queue)
    return Scheduler(
        queue_name=queue, queue=django_rq.get_queue(queue), connection=connection, clock=moved
    )


@pytest.fixture
def scheduler(moved: MovedClock) -> Scheduler:
    return scheduler_at(moved)


def waiting(queue: str = "default") -> list[str]:
    """Return the ids of the jobs that wait in a queue, in order."""
    return list(django_rq.get_queue(queue).get_job_ids())


def called_back(job: Job, connection: redis.Redis, result: Any) -> None:
    CALLS.append(("called back", result))


def score(job: Job | str) -> float | None:
    found: Any = django_rq.get_connection().zscore(
        SCHEDULER_SET, job if isinstance(job, str) else job.id
    )
    return None if found is None else float(found)


def work_twice() -> None:
    """What RQ enqueues because of another job rings no bell; a supervisor finds it."""
    work("default")
    Hand("default").supervise()
    work("default")


def served(
    scheduler: Scheduler, moved: MovedClock, until: datetime, **step: float
) -> list[datetime]:
    """Serve step by step until a moment; return the times at which a run of anything was
    enqueued."""
    found: list[datetime] = []
    while moved.moment < until:
        moved.go(**step)
        scheduler.serve()
        length: Any = scheduler.connection.llen(keys.lane("default"))
        found += [moved.moment] * (length - len(found))
    return found


# --- the 21 faults --------------------------------------------------------------------------------


def test_fault_01_cron_lines_run_in_their_zone_whatever_the_process_s_zone_is(
    scheduler: Scheduler,
) -> None:
    scores = set()
    before = os.environ.get("TZ")
    try:
        for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
            os.environ["TZ"] = zone
            time.tzset()
            scores.add(score(scheduler.cron("0 9 * * *", note, [1], timezone="America/New_York")))
            scores.add(score(scheduler.cron("0 14 * * *", note, [1])))
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()

    assert scores == {at("2026-03-01 14:00").timestamp()}


def test_fault_01_use_local_timezone_is_the_project_s_zone(scheduler: Scheduler) -> None:
    with override_settings(TIME_ZONE="Asia/Tokyo"):
        job = scheduler.cron("0 9 * * *", note, use_local_timezone=True)
    assert score(job) == at("2026-03-02 00:00").timestamp()


@pytest.mark.parametrize(
    ("line", "runs"),
    [
        ("30 2 * * *", ["07:00"]),
        ("0 * * * *", ["06:00", "07:00", "08:00", "09:00", "10:00", "11:00"]),
    ],
)
def test_fault_02_no_storm_in_spring(line: str, runs: list[str]) -> None:
    moved = MovedClock(at("2026-03-08 05:30"))
    scheduler = scheduler_at(moved)
    scheduler.cron(line, note, timezone="America/New_York")
    found = served(scheduler, moved, at("2026-03-08 11:30"), minutes=1)
    assert [f"{moment:%H:%M}" for moment in found] == runs


@pytest.mark.parametrize(
    ("line", "runs"),
    [
        ("0 * * * *", ["05:00", "06:00", "07:00", "08:00"]),
        ("*/30 * * * *", ["05:00", "05:30", "06:00", "06:30", "07:00", "07:30", "08:00"]),
        ("30 1 * * *", ["05:30"]),
    ],
)
def test_fault_03_no_hour_is_left_out_in_autumn(line: str, runs: list[str]) -> None:
    moved = MovedClock(at("2026-11-01 04:45"))
    scheduler = scheduler_at(moved)
    scheduler.cron(line, note, timezone="America/New_York")
    found = served(scheduler, moved, at("2026-11-01 08:10"), minutes=5)
    assert [f"{moment:%H:%M}" for moment in found] == runs


def test_fault_04_a_run_is_a_job_of_its_own_and_never_the_one_that_still_runs(
    scheduler: Scheduler, moved: MovedClock
) -> None:
    job = scheduler.schedule(NOON, note, [1], interval=1, id="per")
    scheduler.serve()
    running = Hand().take()
    moved.go(seconds=1)
    scheduler.serve()
    first, second = (f"per-{int((NOON + timedelta(seconds=n)).timestamp() * 1000)}" for n in (0, 1))
    assert running.id == first
    assert waiting() == [second]
    assert job.get_status() == "scheduled"


@pytest.mark.parametrize("times", [1, 2])
def test_fault_05_enqueueing_and_arming_anew_are_one_step(
    times: int, redis_proxy: CuttingProxy, moved: MovedClock
) -> None:
    """Connections that break in between, however often: one run each, and never an entry lost."""
    scheduler = scheduler_at(moved)
    repeated = scheduler.schedule(NOON, note, [1], interval=60, id="per")
    once = scheduler.enqueue_at(NOON, note, 2)
    cuts = [redis_proxy.cut_reply(script_digest("rearm")) for _ in range(times)]
    for _ in range(5):
        try:
            scheduler.serve()
        except redis.ConnectionError:
            continue
    for cut in cuts:
        cut.wait()

    assert sorted(waiting()) == sorted([f"per-{int(NOON.timestamp() * 1000)}", once.id])
    assert score(repeated) == NOON.timestamp() + 60
    assert score(once) is None


def test_fault_05_storing_an_entry_and_its_time_are_one_step(
    round_trips: Any, scheduler: Scheduler
) -> None:
    """A clock that looks in between would run it early, and then again."""
    with round_trips.counting() as trips:
        scheduler.enqueue_at(NOON, note, 1)
        scheduler.schedule(NOON, note, interval=60)
        scheduler.cron("* * * * *", note)
    assert trips == ["pipeline"] * 3


def test_fault_06_a_signal_does_not_end_a_pass_in_the_middle() -> None:
    signalled: list[float] = []

    def now() -> float:
        if not signalled:
            signalled.append(time.time())
            os.kill(os.getpid(), signal.SIGTERM)
        return time.time()

    for number in range(3):
        scheduler_of("default").enqueue_at(
            timezone.now() - timedelta(seconds=3 - number), note, number
        )
    handler = signal.getsignal(signal.SIGTERM)
    assert Clock("default", scheduler_at(now)).run() == 0
    assert signalled
    assert len(waiting()) == 3
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not django_rq.get_connection().exists(keys.CLOCK), "the lock is given back"


class _LongPass:
    """A scheduler whose pass takes a second."""

    def __init__(self, during: Callable[[], None]) -> None:
        self.clock = time.time
        self.during = during

    def serve(self, renew: Callable[[], None]) -> float | None:
        end = time.monotonic() + 1

        def go_on() -> bool:
            renew()
            self.during()
            return time.monotonic() > end

        wait_until(go_on, 5)
        return None


def test_fault_07_the_lock_is_renewed_in_a_long_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "LOCK_MS", 300)
    monkeypatch.setattr(clock_module, "RENEW_EVERY", 0.05)
    rival = Clock("default", scheduler_of("default"))
    led: list[float | None] = []
    clock = Clock("default", _LongPass(lambda: led.append(rival.one_pass())))
    assert clock.one_pass() is not None
    assert len(led) > 10
    assert set(led) == {None}


def test_fault_07_a_pass_that_has_lost_the_lock_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "RENEW_EVERY", 0.05)
    connection = django_rq.get_connection()
    seen: list[int] = []

    def lose() -> None:
        seen.append(1)
        connection.set(keys.CLOCK, "another's")

    clock = Clock("default", _LongPass(lose))
    assert clock.one_pass() is None
    assert not clock.leading
    assert len(seen) < 10


def test_fault_08_a_lock_of_another_s_is_not_removed(scheduler: Scheduler) -> None:
    rival = scheduler_of("default")
    assert scheduler.acquire_lock()
    assert scheduler.acquire_lock(), "the owner may ask again"
    assert not rival.acquire_lock()
    scheduler.connection.delete(keys.CLOCK)  # it ran out
    assert rival.acquire_lock()
    scheduler.remove_lock()
    assert not scheduler.acquire_lock()
    rival.remove_lock()
    assert scheduler.acquire_lock()


def _spoil(job: Job, **fields: Any) -> None:
    job.connection.hset(job.key, mapping=fields)


BAD: dict[str, tuple[Callable[[Job], None], str]] = {
    "cron line": (
        lambda job: _spoil(job, meta=json.dumps({"cron_string": "61 * * * *"})),
        "minute 61 is above 59",
    ),
    "zone": (
        lambda job: _spoil(job, meta=json.dumps({"cron_string": "@daily", "timezone": "Nope"})),
        "Nope",
    ),
    "interval": (lambda job: _spoil(job, meta=json.dumps({"interval": "abc"})), "abc"),
    "interval of nothing": (
        lambda job: _spoil(job, meta=json.dumps({"interval": 0})),
        "must be above 0",
    ),
    "repeat": (
        lambda job: _spoil(job, meta=json.dumps({"interval": 1, "repeat": "often"})),
        "often",
    ),
    "pickled meta": (
        lambda job: _spoil(job, meta=pickle.dumps({"interval": 60})),
        "its meta is not a JSON object",
    ),
    "meta of another shape": (
        lambda job: _spoil(job, meta=b"[1]"),
        "its meta is not a JSON object",
    ),
    "created_at": (lambda job: _spoil(job, created_at="yesterday"), "ValueError"),
    "status": (lambda job: _spoil(job, status="dreaming"), "dreaming"),
    "queue": (lambda job: _spoil(job, origin="nowhere"), "RQ_QUEUES has no queue 'nowhere'"),
}


@pytest.mark.parametrize("fault", BAD)
def test_fault_09_one_bad_entry_stops_no_other(
    fault: str, scheduler: Scheduler, moved: MovedClock
) -> None:
    """It is set aside, with the reason, neither run again at every start nor lost, and can be
    mended."""
    spoil, reason = BAD[fault]
    bad = scheduler.enqueue_at(NOON - timedelta(seconds=1), note, 1, job_id="bad")
    good = scheduler.enqueue_at(NOON, note, 2)
    spoil(bad)
    scheduler.serve()
    scheduler_at(moved).serve()
    assert waiting() == [good.id]
    assert list(scheduler.broken_entries()) == ["bad"]
    assert reason in scheduler.broken_entries()["bad"]
    assert "bad" not in scheduler
    assert scheduler.connection.exists(bad.key)

    _spoil(
        bad,
        meta="{}",
        created_at="2026-01-01T00:00:00.000000Z",
        status="scheduled",
        origin="default",
    )
    scheduler.restore("bad", moved.go(seconds=5))
    assert scheduler.broken_entries() == {}

    scheduler.serve()
    assert waiting() == [good.id, "bad"]


@pytest.mark.parametrize("data", [b"rubbish", pickle.dumps(("os.getpid", None, (), {}))])
def test_fault_09_data_that_cannot_be_read_end_in_a_dead_letter(
    data: bytes, scheduler: Scheduler
) -> None:
    bad = scheduler.enqueue_at(NOON - timedelta(seconds=1), note, 1)
    good = scheduler.enqueue_at(NOON, note, 2)
    _spoil(bad, data=data)
    scheduler.serve()
    work("default")
    assert CALLS == [("note", 2)]
    Books().fold()
    states = dict(JobRecord.objects.exclude(rq_id=None).values_list("rq_id", "state"))
    assert states == {bad.id: "failed", good.id: "completed"}


def test_fault_09_a_queue_class_that_is_gone_does_not_matter(scheduler: Scheduler) -> None:
    scheduler.enqueue_at(NOON, note, 1, meta={"queue_class_name": "gone.Queue"})
    scheduler.serve()
    work("default")
    assert CALLS == [("note", 1)]


def test_fault_09_a_key_of_the_wrong_kind_stops_the_entries_only(redis_client: redis.Redis) -> None:
    redis_client.set(SCHEDULER_SET, "what is this")
    assert Clock("default", scheduler_of("default")).one_pass() == pytest.approx(1)


def test_fault_10_an_entry_outlives_its_runs(scheduler: Scheduler, moved: MovedClock) -> None:
    """Whatever becomes of the runs: they expire, are emptied out of the queue, fail and are
    deleted."""
    entry = scheduler.schedule(NOON, note, [1], interval=60, result_ttl=1)
    scheduler.serve()
    django_rq.get_queue("default").empty()
    moved.go(minutes=1)
    scheduler.serve()
    [second] = waiting()
    Job.fetch(second, connection=scheduler.connection, serializer=JSONSerializer).delete()
    moved.go(minutes=1)
    scheduler.serve()
    work("default")

    assert CALLS == [("note", 1)]
    assert scheduler.connection.ttl(entry.key) == -1
    assert entry in scheduler
    assert score(entry) == NOON.timestamp() + 180


@pytest.mark.parametrize(("given", "kept"), [(None, None), (-1, None), (77, "77")])
def test_fault_10_keeping_forever_concerns_the_entry_only(
    given: int | None, kept: str | None, scheduler: Scheduler
) -> None:
    entry = scheduler.schedule(NOON, note, [1], interval=60, result_ttl=given)
    scheduler.serve()
    run = scheduler.connection.hget(keys.job(waiting()[0]), "result_ttl")
    assert (None if run is None else run.decode()) == kept  # type: ignore[union-attr]
    assert scheduler.connection.hget(entry.key, "result_ttl") == str(given or -1).encode()


def test_fault_11_redis_away_is_waited_for(processes: Fleet, redis_server: RedisServer) -> None:
    """The process survives, and entries that became due meanwhile are enqueued."""
    process = processes.manage("rqscheduler")
    process.wait_for_output("clock: leading")
    scheduler = scheduler_of("default")
    due = timezone.now() + timedelta(seconds=1)
    job = scheduler.enqueue_at(due, note, 1)
    redis_server.kill9()
    process.wait_for_output("clock: Redis is unavailable")
    processes.wait_until(lambda: timezone.now() > due, 5, "the entry to be overdue")
    redis_server.start()
    processes.wait_until(lambda: waiting() == [job.id])
    assert process.is_running()
    assert "Traceback" not in process.output()


def test_fault_12_times_are_exact(scheduler: Scheduler, moved: MovedClock) -> None:
    due = NOON + timedelta(seconds=0.9, microseconds=123)
    job = scheduler.enqueue_at(due, note, 1)
    assert score(job) == due.timestamp()
    assert scheduler.serve() == due.timestamp()

    moved.moment = due - timedelta(microseconds=1)
    scheduler.serve()
    assert waiting() == []

    moved.moment = due
    scheduler.serve()
    assert waiting() == [job.id]
    assert score(scheduler.enqueue_in(timedelta(seconds=0.25), note)) == pytest.approx(
        due.timestamp() + 0.25, abs=1e-6
    )


def test_fault_13_an_interval_below_a_second(
    scheduler: Scheduler, moved: MovedClock, settings: Any
) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "SHORTEST_INTERVAL": 0.5}
    entry = scheduler.schedule(NOON, note, interval=0.5)
    for _ in range(4):
        scheduler.serve()
        moved.go(seconds=0.5)
    assert len(waiting()) == 4
    assert entry in scheduler


def test_an_entry_below_the_shortest_interval_is_refused_and_put_aside(
    scheduler: Scheduler, moved: MovedClock, settings: Any
) -> None:
    for interval in (0.001, timedelta(milliseconds=999)):
        with pytest.raises(ValueError, match="below 1 s: choose a longer interval"):
            scheduler.schedule(NOON, note, interval=interval)
    entry = scheduler.schedule(NOON, note, interval=1)

    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "SHORTEST_INTERVAL": 60}
    with pytest.raises(ValueError, match="runs every 30 s, which is below 60 s"):
        scheduler.cron("0,30 * * * * *", note)
    scheduler.serve()
    assert "SHORTEST_INTERVAL" in scheduler.broken_entries()[entry.id]
    assert waiting() == []


@pytest.mark.parametrize("interval", [0, -1, "x", float("nan"), float("inf"), timedelta(0)])
def test_fault_13_an_interval_of_nothing_is_refused(interval: Any, scheduler: Scheduler) -> None:
    with pytest.raises(ValueError):
        scheduler.schedule(NOON, note, interval=interval)
    assert scheduler.count() == 0


def test_fault_14_intervals_do_not_drift(scheduler: Scheduler, moved: MovedClock) -> None:
    """The next time is on the grid of the first one, however late each pass comes; what was missed
    is one run."""
    entry = scheduler.schedule(NOON, note, interval=3600)
    for late in (0.0, 1.7, 59.9, 0.3):
        moved.go(seconds=late)
        scheduler.serve()
        moved.moment = NOON + timedelta(hours=len(waiting()))
    assert score(entry) == (NOON + timedelta(hours=4)).timestamp()
    moved.go(hours=5, minutes=10)
    scheduler.serve()
    assert len(waiting()) == 5
    assert score(entry) == (NOON + timedelta(hours=10)).timestamp()


def test_fault_15_entries_are_written_with_json(scheduler: Scheduler) -> None:
    for job in (
        scheduler.enqueue_at(NOON, note, 1),
        scheduler.schedule(NOON, note, [1], interval=1),
        scheduler.cron("* * * * *", note, [1]),
    ):
        found = Job.fetch(job.id, connection=scheduler.connection, serializer=JSONSerializer)
        assert found.args == [1]
        assert json.loads(found.data)[0] == "tests.support.rq_functions.note"


def test_fault_16_the_clock_sleeps_until_the_next_time(moved: MovedClock) -> None:
    clock = Clock("default", scheduler_at(moved))
    assert clock.one_pass() == clock_module.LONGEST_SLEEP
    clock.scheduler.enqueue_at(NOON + timedelta(seconds=0.321), note)  # type: ignore[attr-defined]
    assert clock.one_pass() == pytest.approx(0.321, abs=1e-6)
    moved.go(seconds=0.321)
    clock.one_pass()
    assert len(waiting()) == 1


def test_fault_17_naive_times_are_refused(scheduler: Scheduler) -> None:
    naive = datetime(2026, 3, 1, 12)
    job = scheduler.enqueue_at(NOON, note)
    for ask in (
        lambda: scheduler.enqueue_at(naive, note),
        lambda: scheduler.schedule(naive, note, interval=1),
        lambda: scheduler.change_execution_time(job, naive),
        lambda: scheduler.count(naive),
        lambda: list(scheduler.get_jobs(naive)),
        lambda: scheduler.restore("x", naive),
    ):
        with pytest.raises(ValueError, match="naive datetime: give it a time zone"):
            ask()

    assert scheduler.count() == 1


def test_fault_18_an_entry_that_has_run_meanwhile_is_not_brought_back(scheduler: Scheduler) -> None:
    job = scheduler.enqueue_at(NOON, note)
    scheduler.change_execution_time(job, NOON + timedelta(hours=1, microseconds=5))
    assert score(job) == (NOON + timedelta(hours=1, microseconds=5)).timestamp()
    scheduler.change_execution_time(job, NOON)
    scheduler.serve()
    with pytest.raises(ValueError, match="Job not in scheduled jobs queue"):
        scheduler.change_execution_time(job, NOON + timedelta(hours=1))
    assert score(job) is None


def test_fault_18_a_time_that_is_changed_between_reading_and_running_counts(
    scheduler: Scheduler, moved: MovedClock
) -> None:
    job = scheduler.enqueue_at(NOON, note)
    read = NOON.timestamp()
    scheduler.change_execution_time(job, NOON + timedelta(hours=1))
    scheduler.entries.serve_one(job.id, read)
    assert waiting() == []
    assert score(job) == (NOON + timedelta(hours=1)).timestamp()


def test_fault_19_keys_follow_the_prefix() -> None:
    code = (
        "import django; django.setup()\n"
        "from wellos_jobs.scheduler import Scheduler as s\n"
        "print(s.scheduled_jobs_key, s.scheduler_key, s.scheduler_lock_key, end=' ')\n"
        "print(s.redis_scheduler_namespace_prefix)"
    )
    environment = {
        **os.environ,
        "RQ_KEY_PREFIX": "shop",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [
        "shop:scheduler:scheduled_jobs",
        "shop:scheduler",
        "shop:wellos:clock",
        "shop:scheduler_instance:",
    ]


def test_fault_20_a_job_goes_to_its_queue_with_that_queue_s_options(
    scheduler: Scheduler, settings: Any
) -> None:
    queues = {**settings.RQ_QUEUES}
    queues["reports"] = {**queues["reports"], "DEFAULT_TIMEOUT": 77, "DEFAULT_RESULT_TTL": 88}
    with override_settings(RQ_QUEUES=queues):
        job = scheduler.enqueue_at(NOON, note, 1, queue_name="reports")
        plain = scheduler.enqueue_at(NOON, note, 1)
    assert (job.timeout, job.result_ttl) == (77, 88)
    assert plain.timeout is None
    scheduler.serve()
    assert waiting("reports") == [job.id]
    assert waiting() == [plain.id]


def test_fault_20_a_queue_that_does_not_exist_is_refused(scheduler: Scheduler) -> None:
    with pytest.raises(
        UnknownQueue, match="RQ_QUEUES has no queue 'report': did you mean 'reports'"
    ):
        scheduler.enqueue_at(NOON, note, queue_name="report")
    with pytest.raises(UnknownQueue):
        scheduler.cron("@daily", note, queue_name="nowhere")


def test_fault_21_a_dead_leader_s_lock_is_taken_over_in_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lock lasts five seconds, and a standby looks each second: with what a pass takes, below
    ten."""
    assert clock_module.LOCK_MS / 1000 + clock_module.STANDBY < 10
    monkeypatch.setattr(clock_module, "LOCK_MS", 400)
    dead, standby = (Clock("default", scheduler_of("default")) for _ in range(2))
    assert dead.one_pass() is not None
    assert standby.one_pass() is None
    wait_until(lambda: standby.one_pass() is not None, 2)
    assert dead.one_pass() is None, "should it not have been dead, it knows now"


# --- the API --------------------------------------------------------------------------------------


def test_django_rq_gives_our_scheduler_with_its_setting() -> None:
    assert type(django_rq.get_scheduler("default")) is Scheduler
    assert type(scheduler_of("default")) is Scheduler


def test_the_clock_is_ours_without_the_setting_too(settings: Any) -> None:
    settings.RQ = {"QUEUE_CLASS": settings.RQ["QUEUE_CLASS"]}
    assert type(scheduler_of("default")) is Scheduler


def test_enqueue_at_runs_once_with_its_arguments(scheduler: Scheduler) -> None:
    job = scheduler.enqueue_at(
        NOON, foreign_add, 2, b=5, job_id="mine", job_description="adds", timeout=60, job_ttl=99
    )
    assert (job.id, job.description, job.timeout, job.ttl, job.get_status()) == (
        "mine",
        "adds",
        60,
        99,
        "scheduled",
    )
    assert score("mine") == NOON.timestamp()

    scheduler.serve()
    assert "mine" not in scheduler

    work("default")
    assert (
        Job.fetch("mine", connection=scheduler.connection, serializer=JSONSerializer).return_value()
        == 7
    )

    scheduler.serve()
    assert waiting() == []


def test_an_entry_has_a_row_like_any_job(scheduler: Scheduler) -> None:
    job = scheduler.schedule(NOON, foreign_add, args=[1], kwargs={"b": 2}, interval=60)
    scheduler.serve()
    work("default")
    Books().fold()
    row = JobRecord.objects.get()
    assert (row.rq_id, row.name, row.state) == (
        f"{job.id}-{int(NOON.timestamp() * 1000)}",
        "tests.jobs.foreign_add",
        "completed",
    )


def test_enqueue_in(scheduler: Scheduler, moved: MovedClock) -> None:
    job = scheduler.enqueue_in(timedelta(minutes=1), note, 1)
    scheduler.serve()
    assert waiting() == []
    moved.go(minutes=1)
    scheduler.serve()
    assert waiting() == [job.id]


@pytest.mark.parametrize("positional", [True, False])
def test_schedule_takes_what_rq_scheduler_s_takes(
    positional: bool, scheduler: Scheduler, moved: MovedClock
) -> None:
    if positional:
        job = scheduler.schedule(NOON, foreign_add, [1], {"b": 2}, 60, 2)
    else:
        job = scheduler.schedule(
            NOON, foreign_add, args=[1], kwargs={"b": 2}, interval=60, repeat=2
        )
    for _ in range(4):
        scheduler.serve()
        moved.go(minutes=1)

    assert len(waiting()) == 2, "as often as repeat says"
    assert job not in scheduler
    with pytest.raises(NoSuchJobError):
        job.refresh()


def test_schedule_without_an_interval_runs_once(scheduler: Scheduler) -> None:
    job = scheduler.schedule(
        scheduled_time=NOON, func=note, args=[3], at_front=True, queue_name="email"
    )
    other = scheduler.enqueue_at(NOON - timedelta(seconds=1), note, 4, queue_name="email")
    scheduler.serve()
    assert waiting("email") == [job.id, other.id]
    with pytest.raises(ValueError, match="Can't repeat a job without interval"):
        scheduler.schedule(NOON, note, repeat=3)


def test_cron_takes_what_rq_scheduler_s_takes(scheduler: Scheduler, moved: MovedClock) -> None:
    job = scheduler.cron(
        "0 * * * *",
        note,
        [1],
        None,
        2,
        "email",
        500,
        id="hourly",
        meta={"mine": 1},
        description="d",
    )
    assert job.meta == {"mine": 1, "cron_string": "0 * * * *", "timezone": "UTC", "repeat": 2}
    assert (job.id, job.origin, job.result_ttl, job.description) == ("hourly", "email", 500, "d")

    for _ in range(4):
        moved.go(hours=1)
        scheduler.serve()
    assert waiting("email") == [
        f"hourly-{int(moment.timestamp() * 1000)}"
        for moment in every(3600, NOON + timedelta(hours=1), 2)
    ]
    with pytest.raises(CronError, match="minute 99 is above 59"):
        scheduler.cron("99 * * * *", note)


def test_an_id_that_is_used_again_replaces_the_entry(scheduler: Scheduler) -> None:
    """As in code that sets up its entries at each start."""
    for line in ("0 * * * *", "30 * * * *"):
        scheduler.cron(line, note, id="mine", repeat=5)
    assert scheduler.count() == 1
    assert score("mine") == at("2026-03-01 12:30").timestamp()
    scheduler.enqueue_at(NOON, note, 1, job_id="mine")
    scheduler.serve()
    assert waiting() == ["mine"]
    assert "mine" not in scheduler, "it is no longer repeated"


def test_cancel_and_in(scheduler: Scheduler) -> None:
    by_job, by_id = scheduler.enqueue_at(NOON, note), scheduler.enqueue_at(NOON, note)
    assert by_job in scheduler and by_id.id in scheduler
    scheduler.cancel(by_job)
    scheduler.cancel(by_id.id)
    assert by_job not in scheduler and by_id.id not in scheduler
    scheduler.serve()
    assert waiting() == []


def test_a_broken_entry_can_be_canceled(scheduler: Scheduler) -> None:
    job = scheduler.enqueue_at(NOON, note)
    _spoil(job, status="dreaming")
    scheduler.serve()
    assert list(scheduler.broken_entries()) == [job.id]
    scheduler.cancel(job.id)
    assert scheduler.broken_entries() == {}
    with pytest.raises(UnknownSchedule, match="was set aside"):
        scheduler.restore(job.id, NOON)


def test_count_and_get_jobs(scheduler: Scheduler) -> None:
    expected = every(60, NOON, 4)
    entries = [scheduler.enqueue_at(moment, note, number) for number, moment in enumerate(expected)]
    ids = [job.id for job in entries]
    assert scheduler.count() == 4

    for until in (NOON + timedelta(seconds=90), timedelta(seconds=90), NOON.timestamp() + 90):
        assert scheduler.count(until) == 2
        assert [job.id for job in scheduler.get_jobs(until)] == ids[:2]
    assert [job.id for job in scheduler.get_jobs()] == ids
    assert [job.args for job in scheduler.get_jobs(offset=1, length=2)] == [[1], [2]]
    assert [(job.id, moment) for job, moment in scheduler.get_jobs(with_times=True)] == list(
        zip(ids, expected, strict=True)
    )
    assert [job.id for job in scheduler.get_jobs_to_queue()] == ids[:1]


def test_reading_changes_nothing(scheduler: Scheduler, redis_client: redis.Redis) -> None:
    """Not even when the job of an entry is gone."""
    gone = scheduler.enqueue_at(NOON, note)
    redis_client.delete(gone.key)
    before = redis_client.zrange(SCHEDULER_SET, 0, -1)
    assert list(scheduler.get_jobs()) == []
    assert redis_client.zrange(SCHEDULER_SET, 0, -1) == before
    scheduler.serve()
    assert redis_client.zcard(SCHEDULER_SET) == 0


def test_enqueue_job_runs_an_entry_now(scheduler: Scheduler, moved: MovedClock) -> None:
    entry = scheduler.cron("0 * * * *", note, id="x")
    scheduler.enqueue_job(entry)
    assert len(waiting()) == 1
    assert score(entry) == at("2026-03-01 14:00").timestamp(), "in the place of its next run"
    moved.go(hours=2)
    assert [job.id for job in scheduler.enqueue_jobs()] == ["x"]
    assert len(waiting()) == 2


def test_depends_on_waits_for_the_other_job(scheduler: Scheduler, moved: MovedClock) -> None:
    first = django_rq.get_queue("default").enqueue(note, "first")
    job = scheduler.enqueue_at(NOON, note, "second", depends_on=Dependency(jobs=[first]))
    scheduler.serve()
    assert waiting() == [first.id]
    assert job.get_status() == "deferred"
    assert score(job) is None
    work_twice()
    assert CALLS == [("note", "first"), ("note", "second")]


def test_depends_on_survives_the_death_of_the_clock(
    scheduler: Scheduler, moved: MovedClock
) -> None:
    first = django_rq.get_queue("default").enqueue(note, "first")
    job = scheduler.enqueue_at(NOON, note, "second", depends_on=first)
    assert store.run(
        scheduler.connection, "postpone", SCHEDULER_SET, job.id, repr(NOON.timestamp()), 30
    )

    scheduler.serve()
    assert waiting() == [first.id], "somebody has it in hand"

    moved.moment = timezone.now() + timedelta(seconds=31)
    scheduler.serve()
    assert job.get_status() == "deferred"

    scheduler.connection.zadd(SCHEDULER_SET, {job.id: 1.0})  # died before it took the entry out
    scheduler.serve()
    assert score(job) is None

    work_twice()
    assert CALLS == [("note", "first"), ("note", "second")]


def test_depends_on_is_refused_for_what_is_repeated(scheduler: Scheduler) -> None:
    first = django_rq.get_queue("default").enqueue(note, "first")
    with pytest.raises(ValueError, match="only a job that runs once"):
        scheduler.schedule(NOON, note, interval=60, depends_on=first)


def test_callbacks_are_called(scheduler: Scheduler) -> None:
    scheduler.enqueue_at(NOON, note, 1, on_success=Callback(called_back))
    scheduler.schedule(NOON, note, [2], interval=60, on_success=Callback(called_back))
    scheduler.serve()
    work("default")
    assert sorted(CALLS) == [("called back", 1), ("called back", 2), ("note", 1), ("note", 2)]


def test_an_entry_for_a_queue_of_another_redis_is_put_aside(tmp_path: Any, settings: Any) -> None:
    with RedisServer(tmp_path / "second") as server:
        queues = {**settings.RQ_QUEUES, "far": {**settings.RQ_QUEUES["default"], "URL": server.url}}
        with override_settings(RQ_QUEUES=queues):
            scheduler = scheduler_at(MovedClock(NOON))
            job = scheduler.enqueue_at(NOON, note, queue_name="far")
            scheduler.serve()
            assert "queue 'far' is on another Redis" in scheduler.broken_entries()[job.id]
            there = scheduler_at(MovedClock(NOON), "far")
            job = there.enqueue_at(NOON, note)
            there.serve()
            assert waiting("far") == [job.id]


def test_many_entries_at_once(scheduler: Scheduler) -> None:
    found = [scheduler.enqueue_at(NOON, note, number).id for number in range(450)]
    assert scheduler.serve() is None
    assert sorted(waiting()) == sorted(found)


def test_django_rq_reads_the_entries(scheduler: Scheduler) -> None:
    scheduler.cron("0 9 * * *", note, timezone="Asia/Tokyo", id="shown-entry")
    found = django_rq.get_scheduler("default").get_jobs(with_times=True, offset=0, length=100)
    assert [job.id for job, _time in found] == ["shown-entry"]
    [counted] = get_scheduler_statistics()["schedulers"].values()
    assert counted["count"] == 1


def test_rq_s_own_scheduled_jobs_are_served(processes: Fleet) -> None:
    """Those of ``Queue.enqueue_in``, without any worker of RQ's with a scheduler."""
    queue = django_rq.get_queue("email")
    job = queue.enqueue_in(timedelta(seconds=1), note, 1)
    assert ScheduledJobRegistry(queue=queue).get_job_ids() == [job.id]
    processes.manage("rqscheduler")
    processes.wait_until(lambda: waiting("email") == [job.id], 15)
    assert ScheduledJobRegistry(queue=queue).get_job_ids() == []


def test_a_zone_object_is_a_zone(scheduler: Scheduler) -> None:
    job = scheduler.cron("0 9 * * *", note, timezone=ZoneInfo("Asia/Tokyo"))  # type: ignore[arg-type]
    assert score(job) == datetime(2026, 3, 2, 0, tzinfo=UTC).timestamp()
    assert job.meta["timezone"] == "Asia/Tokyo"
