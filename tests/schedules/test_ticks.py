"""Ticks: which runs are made and which are not, once each, whatever races, and what a pass
costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import JobHandle, payload
from wellos_jobs.cron import Every
from wellos_jobs.cron.timing import MAX_COUNTED, Timing
from wellos_jobs.definitions import ids, registry
from wellos_jobs.definitions.unique import Unique
from wellos_jobs.enqueueing.decorator import job
from wellos_jobs.models import JobRecord, Schedule
from wellos_jobs.scheduler import scheduler_of
from wellos_jobs.schedules import ticks, update_schedule
from wellos_jobs.schedules.clock import Clock
from wellos_jobs.states import CatchUp

from .. import jobs
from ..support.engine import work
from ..support.round_trips import RoundTrips
from ..support.schedules import at, due_times, every, make, make_due, rolled_back

pytestmark = pytest.mark.django_db

NOON = at("2026-03-01 12:00")
NEW_YORK = ZoneInfo("America/New_York")


def tick(now: datetime) -> int:
    return ticks.tick("default", now)


def only() -> Schedule:
    return Schedule.objects.get()


# --- catch-up, as a pure decision -----------------------------------------------------------------

HOURLY = Timing("0 * * * *", "UTC")
SECONDLY = Timing("@every 1", "UTC")


def hours(*numbers: int) -> list[datetime]:
    return [at(f"2026-03-01 {number:02}:00") for number in numbers]


@pytest.mark.parametrize(
    ("late", "policy", "most", "runs", "skipped"),
    [
        (timedelta(0), "skip", 100, hours(12), 2),
        (timedelta(0), "once", 100, hours(12), 2),
        (timedelta(0), "all", 100, hours(10, 11, 12), 0),
        (timedelta(seconds=59), "skip", 100, hours(12), 2),
        (timedelta(seconds=60), "skip", 100, [], 3),
        (timedelta(minutes=30), "skip", 100, [], 3),
        (timedelta(minutes=30), "once", 100, hours(12), 2),
        (timedelta(minutes=30), "all", 100, hours(10, 11, 12), 0),
        (timedelta(minutes=30), "all", 2, hours(11, 12), 1),
        (timedelta(minutes=30), "all", 1, hours(12), 2),
    ],
)
def test_missed_runs(
    late: timedelta, policy: str, most: int, runs: list[datetime], skipped: int
) -> None:
    """Due since 10:00, served at 12:00 or somewhat later."""
    due = HOURLY.due(hours(10)[0], NOON + late, CatchUp(policy), most)
    assert (list(due.runs), due.skipped, due.next_run) == (runs, skipped, hours(13)[0])


@pytest.mark.parametrize("policy", CatchUp)
def test_a_takeover_of_a_few_seconds_misses_nothing_under_any_policy(policy: CatchUp) -> None:
    due = SECONDLY.due(NOON, NOON + timedelta(seconds=12, milliseconds=300), policy, 100)
    assert list(due.runs) == every(1, NOON, 13)
    assert (due.skipped, due.next_run) == (0, NOON + timedelta(seconds=13))


@pytest.mark.parametrize("policy", CatchUp)
def test_the_catch_up_limit_is_kept(policy: CatchUp) -> None:
    due = SECONDLY.due(NOON, NOON + timedelta(seconds=12), policy, 5)
    assert list(due.runs) == every(1, NOON + timedelta(seconds=8), 5)
    assert due.skipped == 8


@pytest.mark.parametrize("line", ["@every 1", "* * * * * *"])
def test_a_week_of_missed_seconds_is_cheap(line: str) -> None:
    """604,801 runs: an interval counts them, a cron line says that there were at least so many."""
    now = NOON + timedelta(days=7)
    due = Timing(line, "America/New_York").due(NOON, now, CatchUp.ALL, 100)
    assert list(due.runs) == every(1, now - timedelta(seconds=99), 100)
    assert due.next_run == now + timedelta(seconds=1)
    assert due.skipped == (604_701 if line == "@every 1" else MAX_COUNTED - 100)
    assert Timing(line, "UTC").due(NOON, now, CatchUp.ONCE, 1).runs == (now,)


def test_a_long_absence_ends_with_the_schedule() -> None:
    end = NOON + timedelta(hours=5)
    timing = Timing("* * * * * *", "UTC", ends_at=end)
    due = timing.due(NOON, NOON + timedelta(days=7), CatchUp.ONCE, 100)
    assert (due.runs, due.next_run) == ((end,), None)


def test_a_run_at_the_end_is_included() -> None:
    timing = Timing("0 * * * *", "UTC", ends_at=hours(11)[0])
    due = timing.due(hours(10)[0], NOON, CatchUp.ALL, 100)
    assert (list(due.runs), due.next_run) == (hours(10, 11), None)
    assert timing.after(hours(10)[0], 5) == hours(11)


def test_a_run_at_the_start_is_included() -> None:
    timing = Timing("0 * * * *", "UTC", starts_at=hours(11)[0])
    assert timing.after(hours(2)[0], 2) == hours(11, 12)
    assert timing.after(hours(11)[0], 1) == hours(12)


def test_bounds_in_a_repeated_hour_are_moments_not_wall_times() -> None:
    """01:30 comes twice on 1 November 2026: an end in the first pass is an hour before one in the
    second."""
    first = datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK)
    for fold, expected in (
        (0, ["05:00", "05:15", "05:30"]),
        (1, ["05:00", "05:15", "05:30", "05:45"]),
    ):
        timing = Timing("*/15 1 * * *", "America/New_York", ends_at=first.replace(fold=fold))
        due = timing.due(at("2026-11-01 05:00"), at("2026-11-01 12:00"), CatchUp.ALL, 100)
        assert [f"{run.astimezone(UTC):%H:%M}" for run in due.runs][:4] == expected


# --- catch-up, overlap and bounds, in rows --------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "made", "missed"),
    [("skip", [], 3), ("once", hours(12), 2), ("all", hours(10, 11, 12), 0)],
)
def test_catch_up(policy: str, made: list[datetime], missed: int) -> None:
    make_due(hours(10)[0], cron="0 * * * *", catch_up=policy)
    now = NOON + timedelta(minutes=30)
    assert tick(now) == len(made)
    row = only()
    assert due_times(row) == made
    assert (row.missed, row.missed_at) == (missed, now if missed else None)
    assert row.next_run_at == hours(13)[0]
    assert row.last_run_at == (made[-1] if made else None)
    assert tick(now) == 0


def test_a_job_of_a_tick() -> None:
    row = make_due(
        hours(12)[0], cron="0 * * * *", job="test-add", data={"a": 1}, organization_id="acme"
    )
    tick(NOON)
    record = JobRecord.objects.get()
    assert (record.name, record.queue, record.organization_id) == ("test-add", "reports", "acme")
    assert (record.run_at, record.schedule, record.state) == (NOON, row, "waiting")
    assert payload.decode(record.data) == {"a": 1}
    assert only().last_job == record
    assert record.id == ids.tick_id(row.key, NOON)
    assert record.id.int >> 80 == int(NOON.timestamp() * 1000), (
        "a tick's id begins with its due time in ms"
    )
    assert record.id.version == 7


def test_ids_differ_between_schedules_due_times_and_databases() -> None:
    rows = [make(name) for name in ("a", "b")]
    found = {ids.tick_id(row.key, due) for row in rows for due in hours(1, 2)}
    assert len(found) == 4
    rows[0]._state.db = "other"
    assert ids.tick_id(rows[0].key, hours(1)[0]) not in found


def test_a_tick_is_not_made_twice() -> None:
    """As after a commit that was reported as failed, or with an older copy of the schedules'
    table."""
    make_due(hours(10)[0], cron="0 * * * *", catch_up="all")
    tick(NOON)
    Schedule.objects.update(next_run_at=hours(11)[0])
    tick(NOON)
    assert due_times("test") == hours(10, 11, 12)
    assert only().last_job.run_at == NOON  # type: ignore[union-attr]


@pytest.mark.django_db(transaction=True)
def test_overlap() -> None:
    """``skip`` passes over a run while the last job has not ended; ``allow`` does not."""
    make_due(hours(10)[0], "skipping", "0 * * * *", overlap="skip")
    make_due(hours(10)[0], "allowing", "0 * * * *", overlap="allow")
    for hour in (10, 11):
        tick(hours(hour)[0])
    assert due_times("allowing") == hours(10, 11)
    assert due_times("skipping") == hours(10)

    row = Schedule.objects.get(name="skipping")
    assert (row.missed, row.missed_at, row.last_run_at) == (1, hours(11)[0], hours(10)[0])

    JobRecord.objects.update(state="completed")
    tick(hours(12)[0])
    assert due_times("skipping") == hours(10, 12)

    JobRecord.objects.all().delete()
    tick(hours(13)[0])
    assert due_times("skipping") == hours(13), "a job that was pruned has ended"


def test_overlap_skip_makes_one_job_even_when_catching_up() -> None:
    make_due(hours(10)[0], cron="0 * * * *", overlap="skip", catch_up="all")
    tick(NOON)
    assert due_times("test") == hours(12)
    assert only().missed == 2


def test_a_schedule_that_has_ended_is_not_due_again() -> None:
    make_due(hours(10)[0], cron="0 * * * *", catch_up="all", ends_at=hours(11)[0])
    tick(NOON)
    row = only()
    assert due_times(row) == hours(10, 11)
    assert row.next_run_at is None
    assert ticks.next_due("default") is None


def test_a_waiting_unique_job_counts_for_the_next_tick() -> None:
    with registry.isolated():
        job("test-unique", unique=Unique(until="done"))(jobs.foreign_fail)
        make_due(hours(10)[0], cron="0 * * * *", job="test-unique", catch_up="all")
        tick(hours(11)[0])
        first = JobRecord.objects.get()
        assert only().last_job == first
        tick(hours(12)[0])
        assert JobRecord.objects.get() == first


def test_a_schedule_disabled_by_sql_does_not_run() -> None:
    """By SQL, or by code that goes round ``save`` and ``update``."""
    make_due(hours(10)[0], cron="0 * * * *")
    Schedule._base_manager.update(enabled=False)
    assert tick(NOON) == 0
    assert ticks.next_due("default") is None


# --- clock changes, with a moved clock ------------------------------------------------------------

SPRING, AUTUMN = "2026-03-08", "2026-11-01"
EDGES = [
    (SPRING, "30 2 * * *", ["03:00"]),
    (
        SPRING,
        "*/15 1-3 * * *",
        ["01:00", "01:15", "01:30", "01:45", "03:00", "03:15", "03:30", "03:45"],
    ),
    (SPRING, "0 8 * * *", ["08:00"]),
    (AUTUMN, "30 1 * * *", ["01:30"]),
    (AUTUMN, "30 2 * * *", ["02:30"]),
    (AUTUMN, "*/15 1 * * *", ["01:00", "01:15", "01:30", "01:45"] * 2),
    (AUTUMN, "0 8 * * *", ["08:00"]),
]


@pytest.mark.parametrize("step", [timedelta(minutes=7), timedelta(hours=5)], ids=["steps", "leaps"])
@pytest.mark.parametrize(("day", "line", "walls"), EDGES)
def test_clock_changes(day: str, line: str, walls: list[str], step: timedelta) -> None:
    """Over the whole local day: no run twice, none missing, each when the documented rule says."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=NEW_YORK).astimezone(UTC)
    first = Timing(line, "America/New_York").after(midnight - timedelta(seconds=1))[0]
    make_due(first, cron=line, time_zone="America/New_York", catch_up="all")
    now = midnight
    while now < midnight + timedelta(hours=25):
        now += step
        tick(now)
    runs = [run.astimezone(NEW_YORK) for run in due_times("test")]
    assert [f"{run:%H:%M}" for run in runs if run.date().isoformat() == day] == walls
    times = due_times("test")
    assert times == sorted(set(times))


@pytest.mark.parametrize("day", [SPRING, AUTUMN])
def test_an_hourly_schedule_runs_every_real_hour(day: str) -> None:
    begin = at(f"{day} 03:00")
    make_due(begin, cron="0 * * * *", time_zone="America/New_York", catch_up="all")
    for hour in range(8):
        tick(begin + timedelta(hours=hour))
    assert due_times("test") == every(3600, begin, 8)


# --- what cannot run ------------------------------------------------------------------------------


def resolve(organization_id: str) -> dict[str, str]:
    """The project's hook, failing as configured."""
    if organization_id == "raises":
        raise KeyError("nobody")
    if organization_id == "asks":
        with connection.cursor() as cursor:
            cursor.execute("SELECT zone FROM a_table_that_is_not_there")
    if _gate is not None:
        _gate()
    return {"time_zone": "Asia/Tokyo" if organization_id == "mended" else "UTC"}


_gate: Callable[[], None] | None = None
RESOLVER = {"ORGANIZATION_RESOLVER": f"{__name__}.resolve"}


def go_round(**values: Any) -> None:
    """Write a row as SQL would."""
    Schedule._base_manager.filter(name="bad").update(**values)


BREAK: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "job": (
        {"job_name": "gone"},
        {"job_name": "test-noop"},
        "UnknownJob: No job is declared under the name 'gone'",
    ),
    "line": (
        {"cron": "0 99 * * *", "planned_for": ""},
        {"cron": "0 * * * *"},
        "CronError: '0 99 * * *'",
    ),
    "zone": ({"time_zone": "Nowhere", "planned_for": ""}, {"time_zone": "UTC"}, "CronError"),
    "data": ({"data": {"x": 1}}, {"data": {}}, "TypeError: test-noop: unknown argument 'x'"),
    "payload": ({"data": {"$uuid": 1, "y": {"$uuid": "z"}}}, {"data": {}}, "PayloadError"),
    "hook": (
        {"organization_id": "raises", "time_zone": "", "planned_for": ""},
        {"organization_id": ""},
        "ValueError: ORGANIZATION_RESOLVER failed for 'raises': KeyError",
    ),
    "hook that breaks the transaction": (
        {"organization_id": "asks", "time_zone": "", "planned_for": ""},
        {"organization_id": ""},
        "ValueError: ORGANIZATION_RESOLVER failed for 'asks'",
    ),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", BREAK)
def test_a_schedule_that_cannot_run_is_put_aside_until_fixed(fault: str) -> None:
    """It stops no other, is not fired, keeps the run it missed, and makes up for it once it can run
    again."""
    broken, mended, reason = BREAK[fault]
    make_due(hours(10)[0], "bad", "0 * * * *", time_zone="UTC")
    make_due(hours(11)[0], "good", "0 * * * *")
    with override_settings(WELLOS_JOBS={**RESOLVER, **_keys()}):
        go_round(**broken)
        assert tick(hours(11)[0]) == 1
        bad = Schedule.objects.get(name="bad")
        assert bad.broken.startswith(reason)
        assert (due_times("bad"), due_times("good")) == ([], hours(11))
        assert bad.next_run_at == hours(10)[0]
        assert ticks.next_due("default") == hours(12)[0]
        assert ticks.retry_broken("default", hours(11)[0]) == 0, "nothing has changed yet"
        go_round(**mended)
        assert ticks.retry_broken("default", NOON) == 1
        bad = Schedule.objects.get(name="bad")
        assert (bad.broken, due_times("bad"), bad.missed) == ("", hours(12), 2)


def _keys() -> dict[str, Any]:
    return {"ENCRYPTION_KEYS": settings.WELLOS_JOBS["ENCRYPTION_KEYS"]}


def test_saving_a_schedule_that_was_put_aside_enables_it() -> None:
    row = make_due(hours(10)[0], "bad", "0 * * * *")
    go_round(data={"x": 1})
    tick(NOON)
    row.refresh_from_db()
    assert row.broken
    row.data = {}
    row.save()
    row.refresh_from_db()
    assert (row.broken, row.next_run_at) == ("", hours(10)[0])
    assert tick(NOON) == 1


def test_a_timing_change_resets_a_schedule_that_was_put_aside() -> None:
    make_due(hours(10)[0], "bad", "0 * * * *")
    go_round(job_name="gone")
    tick(NOON)
    go_round(job_name="test-noop")
    row = update_schedule("bad", "30 * * * *")
    assert row.broken == ""
    assert row.next_run_at is not None
    assert row.next_run_at > timezone.now()


@pytest.mark.django_db(transaction=True)
def test_a_job_that_the_database_rejects_stops_no_other() -> None:
    """Here its user-defined organization does not fit the column; SQLite takes everything, so a
    trigger refuses it."""
    for number in range(3):
        make_due(hours(10)[0], f"s{number}", "0 * * * *", organization_id=f"org-{number}")
    with _refusing("org-1"):
        assert tick(NOON) == 2
        rows = {row.name: row for row in Schedule.objects.all()}
        assert "refused" in rows["s1"].broken
        assert [name for name, row in rows.items() if not row.broken] == ["s0", "s2"]
        assert ticks.retry_broken("default", NOON) == 0
    assert ticks.retry_broken("default", NOON) == 1
    assert due_times("s1") == hours(12)


_TRIGGERS = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE INSERT ON wellos_jobs_jobrecord "
        "WHEN NEW.organization_id = '{0}' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN IF NEW.organization_id = '{0}' THEN "
        "RAISE EXCEPTION 'refused' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$ "
        "LANGUAGE plpgsql",
        "CREATE TRIGGER refuse BEFORE INSERT ON wellos_jobs_jobrecord "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
    "mysql": (
        "CREATE TRIGGER refuse BEFORE INSERT ON wellos_jobs_jobrecord FOR EACH ROW "
        "IF NEW.organization_id = '{0}' THEN SIGNAL SQLSTATE '23000' "
        "SET MYSQL_ERRNO = 4025, MESSAGE_TEXT = 'refused'; END IF",
    ),
}


@contextmanager
def _refusing(organization: str) -> Iterator[None]:
    on_table = " ON wellos_jobs_jobrecord" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        for statement in _TRIGGERS[connection.vendor]:
            cursor.execute(statement.format(organization))
        try:
            yield
        finally:
            cursor.execute(f"DROP TRIGGER refuse{on_table}")
            if on_table:
                cursor.execute("DROP FUNCTION refuse()")


# --- races ----------------------------------------------------------------------------------------


class Other:
    """Does something in a thread of its own, on a connection of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    def is_blocked(self, seconds: float = 0.3) -> bool:
        """Return whether it is still at it after a while."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def end(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture(params=["SKIP LOCKED", "as older databases"])
def _old_and_new_databases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """MySQL before 8 and MariaDB before 10.6 cannot pass over rows that others hold: there a pass
    waits."""
    if request.param != "SKIP LOCKED":
        monkeypatch.setattr(type(connection.features), "has_select_for_update_skip_locked", False)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_old_and_new_databases")
def test_concurrent_passes_make_each_tick_once() -> None:
    since = timezone.now().replace(microsecond=0)
    for number in range(60):
        make_due(since - timedelta(seconds=number % 3), f"s{number}", Every(1), catch_up="all")
    now, start = since + timedelta(seconds=2), threading.Barrier(4)

    def pass_by() -> None:
        start.wait(10)
        for later in range(3):
            tick(now + timedelta(seconds=later))

    others = [Other(pass_by) for _ in range(4)]
    for other in others:
        other.end()
    tick(now + timedelta(seconds=2))
    for number in range(60):
        first = since - timedelta(seconds=number % 3)
        assert due_times(f"s{number}") == every(1, first, 5 + number % 3), f"s{number}"


def changed_and_held(commit: bool) -> tuple[Other, Callable[[], None]]:
    """Change the schedule's line in a transaction that stays open until the returned function is
    called."""
    changed, go_on = threading.Event(), threading.Event()

    def change() -> None:
        with transaction.atomic():
            update_schedule("test", "30 * * * *")
            changed.set()
            assert go_on.wait(20)
            if not commit:
                transaction.set_rollback(True)

    other = Other(change)
    assert changed.wait(10)
    return other, go_on.set


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_old_and_new_databases")
def test_a_changed_cron_never_fires_at_its_old_time_when_a_tick_comes_before_the_commit() -> None:
    make_due(timezone.now(), cron="0 * * * *")
    change, commit = changed_and_held(commit=True)
    tick_now = Other(lambda: tick(timezone.now()))
    tick_now.is_blocked()  # on SQLite it waits; elsewhere it passes over the row
    commit()
    change.end()
    tick_now.end()
    assert tick(timezone.now()) == 0
    assert due_times("test") == []
    row = only()
    assert row.next_run_at is not None
    assert row.next_run_at.minute == 30


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_rolled_back_leaves_the_old_time_and_makes_no_new_one() -> None:
    due = timezone.now()
    make_due(due, cron="0 * * * *")
    change, roll_back = changed_and_held(commit=False)
    tick_now = Other(lambda: tick(timezone.now()))
    tick_now.is_blocked()
    roll_back()
    change.end()
    tick_now.end()
    tick(timezone.now())
    assert due_times("test") == [due]

    row = only()
    assert (row.cron, row.next_run_at.minute) == ("0 * * * *", 0)  # type: ignore[union-attr]
    assert tick(row.next_run_at - timedelta(seconds=1)) == 0  # type: ignore[operator]


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_rolled_back_without_any_race() -> None:
    due = timezone.now()
    make_due(due, cron="0 * * * *")
    with rolled_back():
        update_schedule("test", "30 * * * *")
    tick(timezone.now())
    assert due_times("test") == [due]
    assert only().next_run_at.minute == 0  # type: ignore[union-attr]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["update_schedule", "stale save", "update"])
def test_a_changed_cron_never_fires_at_its_old_time_when_the_change_comes_in_mid_tick(
    way: str,
) -> None:
    """The tick of the old line was first: it is made. The change waits for it and then has the last
    word."""
    global _gate
    due = timezone.now().replace(microsecond=0)
    in_tick, go_on = threading.Event(), threading.Event()

    def gate() -> None:
        if threading.current_thread() is ticking._thread:
            in_tick.set()
            assert go_on.wait(20)

    with override_settings(WELLOS_JOBS=RESOLVER):
        make_due(due, cron="0 * * * *", organization_id="acme")
        stale = only()
        stale.cron = "30 * * * *"
        ways: dict[str, Callable[[], Any]] = {
            "update_schedule": lambda: update_schedule("test", "30 * * * *"),
            "stale save": stale.save,
            "update": lambda: Schedule.objects.filter(name="test").update(cron="30 * * * *"),
        }
        try:
            ready = threading.Event()

            def tick_when_ready() -> None:
                assert ready.wait(10)
                tick(timezone.now())

            ticking = Other(tick_when_ready)
            _gate = gate
            ready.set()
            assert in_tick.wait(10)
            change = Other(ways[way])
            assert change.is_blocked(), "the row is the tick's"
        finally:
            go_on.set()
            _gate = None
        ticking.end()
        change.end()
        row = only()
        assert (row.cron, row.last_run_at) == ("30 * * * *", due)
        assert row.next_run_at is not None
        assert row.next_run_at.minute == 30
        assert due_times("test") == [due]
        old = Timing("0 * * * *", "UTC").after(timezone.now())[0]
        if old < row.next_run_at:
            assert tick(old) == 0
        assert due_times("test") == [due]


@pytest.mark.django_db(transaction=True)
def test_a_schedule_deleted_in_mid_tick_or_before_leaves_no_job_behind() -> None:
    make_due(timezone.now())
    with rolled_back():
        only().delete()
    assert tick(timezone.now()) == 1
    only().delete()
    assert tick(timezone.now() + timedelta(days=1)) == 0
    assert JobRecord.objects.count() == 1


# --- the pass and the clock -----------------------------------------------------------------------


@contextmanager
def cost(round_trips: RoundTrips) -> Iterator[dict[str, int]]:
    """Count the queries and the round trips to Redis of a block."""
    counted: dict[str, int] = {}
    with round_trips.counting() as trips, CaptureQueriesContext(connection) as queries:
        yield counted
    counted |= {"queries": len(queries), "round trips": len(trips)}


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.system
def test_a_pass_over_ten_thousand_schedules_that_are_not_due_costs_what_one_over_none_does(
    round_trips: RoundTrips,
) -> None:
    clock = Clock("default", scheduler_of("default"))
    clock.one_pass()
    with cost(round_trips) as none:
        clock.one_pass()
    later = timezone.now() + timedelta(days=1)
    rows = [
        Schedule(name=f"s{number}", cron="0 8 * * *", job_name="test-noop", next_run_at=later)
        for number in range(10_000)
    ]
    Schedule.objects.bulk_create(rows, batch_size=1000)
    with cost(round_trips) as many:
        clock.one_pass()

    # Each second the clock of Redis is read, too, and each ten seconds there is a look for rows
    # that were changed by SQL, and whether the database is a copy.
    for passed in (none, many):
        assert 1 <= passed["queries"] <= 4
        assert 3 <= passed["round trips"] <= 7


@pytest.mark.django_db(transaction=True)
def test_a_pass_costs_the_same_for_few_due_schedules_as_for_many(round_trips: RoundTrips) -> None:
    costs = []
    for count in (5, 200):
        rows = [
            Schedule(
                name=f"{count}-{number}",
                cron="0 * * * *",
                job_name="test-noop",
                next_run_at=hours(10)[0],
            )
            for number in range(count)
        ]
        Schedule.objects.bulk_create(rows)
        with cost(round_trips) as counted:
            assert tick(NOON) == count
        costs.append(counted)

    assert costs[0] == costs[1]
    assert costs[0]["queries"] <= 10


@pytest.mark.django_db(transaction=True)
def test_more_due_schedules_than_one_transaction_takes() -> None:
    count = ticks.CHUNK + 7
    rows = [
        Schedule(
            name=f"s{number}", cron="0 * * * *", job_name="test-noop", next_run_at=hours(10)[0]
        )
        for number in range(count)
    ]
    Schedule.objects.bulk_create(rows, batch_size=500)
    kept = []
    assert ticks.tick("default", NOON, lambda: kept.append(1)) == count
    assert JobRecord.objects.count() == count
    assert len(kept) == 2, "the clock shows a sign of life before each chunk"


@pytest.mark.django_db(transaction=True)
def test_the_job_of_a_tick_runs() -> None:
    make_due(timezone.now(), job="test-add", data={"a": 2, "b": 3})
    tick(timezone.now())
    work("reports")
    assert JobHandle(JobRecord.objects.get().pk, "reports").result == 5


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_locked_due_schedule_does_not_make_the_clock_spin() -> None:
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("here a pass waits for the transaction")
    clock = Clock("default", scheduler_of("default"))
    clock.one_pass()
    make_due(timezone.now(), cron="0 * * * *")
    change, commit = changed_and_held(commit=True)
    try:
        pause = clock.one_pass()
        assert pause is not None
        assert 0.01 < pause <= 0.1
    finally:
        commit()
        change.end()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_clock_serves_every_database() -> None:
    for database in ("default", "other"):
        row = Schedule(
            name=database, cron="0 * * * *", job_name="test-noop", next_run_at=hours(10)[0]
        )
        row.save(using=database)
    Clock("default", scheduler_of("default")).one_pass()
    assert len(due_times("default")) == len(due_times("other", "other")) == 1
    assert JobRecord.objects.count() == 1
