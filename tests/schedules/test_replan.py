"""Plans that are void: of a clock that was ahead, and of schedules switched off and on by SQL."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from wellos_jobs.models import Schedule
from wellos_jobs.scheduler import scheduler_of
from wellos_jobs.schedules import ticks
from wellos_jobs.schedules.clock import Clock, DatabaseSchedules
from wellos_jobs.states import CatchUp, Overlap

from ..support.schedules import MovedClock, at, due_times, make, make_due

pytestmark = pytest.mark.django_db(databases=["default", "other"])

NOON = at("2030-03-01 12:00")
"""Later than the clock of this machine, which counts, too."""
MINUTE, HOUR, YEAR = timedelta(minutes=1), timedelta(hours=1), timedelta(days=365)


def sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def switch(on: bool) -> None:
    sql("UPDATE wellos_jobs_schedule SET enabled = %s", on)


def only() -> Schedule:
    return Schedule.objects.get()


def replan(now: Any = NOON) -> int:
    return ticks.replan("default", now, max(now, timezone.now()))


# --- a clock that was ahead -----------------------------------------------------------------------


@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_a_pass_a_year_ahead_leaves_no_silence_and_makes_no_run_twice(catch_up: CatchUp) -> None:
    row = make_due(NOON, cron="0 * * * *", catch_up=catch_up, catch_up_limit=9_000)
    ticks.tick("default", NOON + YEAR)
    assert only().next_run_at == NOON + YEAR + HOUR

    assert replan() == 1
    assert only().next_run_at == NOON + HOUR
    for hours in range(1, 4):
        ticks.tick("default", NOON + hours * HOUR)

    made = due_times(row)
    assert len(made) == len(set(made)), "no run twice"
    assert {NOON + hours * HOUR for hours in range(1, 4)} <= set(made)
    assert replan(NOON + 3 * HOUR) == 0


def test_its_last_job_does_not_hold_up_a_schedule_that_must_not_overlap() -> None:
    """That job is delayed until its due time, a year later."""
    row = make_due(NOON, cron="0 * * * *", overlap=Overlap.SKIP)
    ticks.tick("default", NOON + YEAR)
    replan()

    assert ticks.tick("default", NOON + HOUR) == 1
    assert NOON + HOUR in due_times(row)


def test_the_facts_of_the_future_are_forgotten() -> None:
    make_due(NOON, cron="0 * * * *", catch_up=CatchUp.SKIP)
    ticks.tick("default", NOON + YEAR)
    replan()
    assert only().missed_at == NOON

    Schedule.objects.all().delete()
    make_due(NOON, cron="0 * * * *")
    ticks.tick("default", NOON + YEAR)
    replan()
    assert (only().last_run_at, only().last_job) == (None, None)


def test_a_run_that_was_postponed_by_hand_stays_postponed() -> None:
    row = make(cron="0 * * * *")
    row.next_run_at = NOON + YEAR
    row.save()

    assert replan() == 0
    assert only().next_run_at == NOON + YEAR


def test_two_hosts_that_differ_by_seconds_do_not_replan_each_other() -> None:
    make_due(NOON, cron="0 * * * *")
    ticks.tick("default", NOON + timedelta(seconds=30))
    assert replan(NOON) == 0


def test_the_clock_notices_it_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wellos_jobs.schedules.clock.REPLAN_EVERY", 0.0)
    row = make_due(NOON, cron="0 * * * *")
    clock = MovedClock(NOON + YEAR)
    schedules = DatabaseSchedules("default", clock, "default")
    schedules.serve(lambda: None)

    clock.moment = NOON + MINUTE
    assert schedules.serve(lambda: None) == (NOON + HOUR).timestamp()
    clock.moment = NOON + HOUR
    schedules.serve(lambda: None)
    assert NOON + HOUR in due_times(row)


def test_the_clock_of_this_host_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are due by the clock of Redis, as delayed jobs are."""
    row = make(cron="0 0 1 1 *")
    host = time.time
    monkeypatch.setattr(time, "time", lambda: host() + 2 * YEAR.total_seconds())

    assert Clock("default", scheduler_of("default")).one_pass() is not None
    assert due_times(row) == []
    assert abs(scheduler_of("default").clock() - host()) < 10


# --- plain SQL ------------------------------------------------------------------------------------


@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_off_and_on_by_sql_goes_on_at_the_next_planned_time(catch_up: CatchUp) -> None:
    row = make_due(NOON, cron="0 * * * *", catch_up=catch_up)
    ticks.tick("default", NOON)
    switch(on=False)
    assert replan(NOON + MINUTE) == 1
    assert only().next_run_at is None

    switch(on=True)
    later = NOON + 5 * HOUR + MINUTE
    assert replan(later) == 1

    assert ticks.tick("default", later) == 0
    assert only().next_run_at == NOON + 6 * HOUR
    assert only().missed == 0
    assert due_times(row) == [NOON]


def test_off_and_on_by_save_does_the_same() -> None:
    row = make_due(NOON, cron="0 * * * *")
    for on in (False, True):
        row.enabled = on
        row.save()
        assert replan() == 0
    assert only().next_run_at == row.first_run_after(timezone.now())


def test_a_row_that_was_inserted_by_sql_is_planned() -> None:
    make(cron="0 * * * *")
    sql("UPDATE wellos_jobs_schedule SET next_run_at = NULL, planned_for = '', planned_at = NULL")

    assert replan() == 1
    assert only().next_run_at == NOON + HOUR


def test_one_that_cannot_be_planned_says_so_and_holds_up_no_other() -> None:
    make("bad", cron="0 * * * *")
    make("good", cron="0 * * * *")
    switch(on=False)
    replan()
    switch(on=True)
    sql("UPDATE wellos_jobs_schedule SET cron = 'nonsense' WHERE name = 'bad'")

    replan()

    assert "CronError" in Schedule.objects.get(name="bad").broken
    assert Schedule.objects.get(name="good").next_run_at == NOON + HOUR


def test_a_look_without_a_find_is_one_query(django_assert_num_queries: Any) -> None:
    make()
    with django_assert_num_queries(1):
        assert replan() == 0
