"""Cron lines: the table of clock changes, error messages, macros, seconds, intervals, English."""

from __future__ import annotations

import dataclasses
import io
import struct
import timeit
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from wellos_jobs.cron import (
    Cron,
    Every,
    describe,
    edges,
    iterate,
    next_runs,
    parse,
    previous_run,
    zone,
)
from wellos_jobs.errors import CronError, WellosJobsError

NEW_YORK, LORD_HOWE = "America/New_York", "Australia/Lord_Howe"
HAVANA, BEIRUT, TROLL = "America/Havana", "Asia/Beirut", "Antarctica/Troll"
NOON = datetime(2026, 6, 1, 12, 7, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def shown(runs: list[datetime]) -> list[str]:
    return [run.strftime("%Y-%m-%d %H:%M%z") for run in runs]


def in_utc(runs: list[datetime]) -> list[datetime]:
    """Two datetimes of one zone are compared by the wall, without their fold; a strict test
    compares in UTC."""
    return [run.astimezone(UTC) for run in runs]


def before_each(line: str, place: str, instants: list[datetime]) -> list[datetime]:
    found = [previous_run(line, place, instant) for instant in instants]
    return in_utc([run for run in found if run is not None])


# --- clock changes --------------------------------------------------------------------------------

CLOCK_CHANGES = {
    # New York: 02:00 becomes 03:00 on 8 March 2026, 02:00 becomes 01:00 on 1 November.
    "a fixed time in the gap runs once right after it": (
        NEW_YORK,
        "30 2 * * *",
        "2026-03-07T12:00-05:00",
        ["2026-03-08 03:00-0400", "2026-03-09 02:30-0400"],
    ),
    "two fixed times in the gap are one run": (
        NEW_YORK,
        "0,30 2 * * *",
        "2026-03-07T12:00-05:00",
        ["2026-03-08 03:00-0400", "2026-03-09 02:00-0400"],
    ),
    "a fixed time in the gap and one at its end are one run": (
        NEW_YORK,
        "0 2,3 * * *",
        "2026-03-07T12:00-05:00",
        ["2026-03-08 03:00-0400", "2026-03-09 02:00-0400"],
    ),
    "every quarter of an hour goes on over the gap": (
        NEW_YORK,
        "*/15 * * * *",
        "2026-03-08T01:30-05:00",
        ["2026-03-08 01:45-0500", "2026-03-08 03:00-0400", "2026-03-08 03:15-0400"],
    ),
    "every hour goes on over the gap": (
        NEW_YORK,
        "0 * * * *",
        "2026-03-08T00:30-05:00",
        ["2026-03-08 01:00-0500", "2026-03-08 03:00-0400", "2026-03-08 04:00-0400"],
    ),
    "a wildcard line within the gap has no run that day": (
        NEW_YORK,
        "*/30 2 * * *",
        "2026-03-07T12:00-05:00",
        ["2026-03-09 02:00-0400", "2026-03-09 02:30-0400"],
    ),
    "08:00 is 08:00 on both sides of the gap": (
        NEW_YORK,
        "0 8 * * *",
        "2026-03-07T00:00-05:00",
        ["2026-03-07 08:00-0500", "2026-03-08 08:00-0400"],
    ),
    "a fixed time in the repeated hour runs in its first pass only": (
        NEW_YORK,
        "30 1 * * *",
        "2026-10-31T12:00-04:00",
        ["2026-11-01 01:30-0400", "2026-11-02 01:30-0500"],
    ),
    "a fixed time after the repeated hour runs once": (
        NEW_YORK,
        "30 2 * * *",
        "2026-10-31T12:00-04:00",
        ["2026-11-01 02:30-0500", "2026-11-02 02:30-0500"],
    ),
    "every quarter of an hour runs eight times in the repeated hour": (
        NEW_YORK,
        "*/15 * * * *",
        "2026-11-01T00:45-04:00",
        [
            *[f"2026-11-01 01:{minute}-0400" for minute in ("00", "15", "30", "45")],
            *[f"2026-11-01 01:{minute}-0500" for minute in ("00", "15", "30", "45")],
            "2026-11-01 02:00-0500",
        ],
    ),
    "every hour runs in both passes": (
        NEW_YORK,
        "0 * * * *",
        "2026-11-01T00:30-04:00",
        ["2026-11-01 01:00-0400", "2026-11-01 01:00-0500", "2026-11-01 02:00-0500"],
    ),
    "a wildcard line within the repeated hour runs in both passes": (
        NEW_YORK,
        "*/30 1 * * *",
        "2026-11-01T00:30-04:00",
        [
            "2026-11-01 01:00-0400",
            "2026-11-01 01:30-0400",
            "2026-11-01 01:00-0500",
            "2026-11-01 01:30-0500",
            "2026-11-02 01:00-0500",
        ],
    ),
    "a range of hours is fixed times": (
        NEW_YORK,
        "0 1-3 * * *",
        "2026-11-01T00:30-04:00",
        [
            "2026-11-01 01:00-0400",
            "2026-11-01 02:00-0500",
            "2026-11-01 03:00-0500",
            "2026-11-02 01:00-0500",
        ],
    ),
    "a star anywhere in the minutes makes a wildcard line": (
        NEW_YORK,
        "0,*/30 1 * * *",
        "2026-11-01T01:30-04:00",
        ["2026-11-01 01:00-0500", "2026-11-01 01:30-0500", "2026-11-02 01:00-0500"],
    ),
    "a list of hours is fixed times": (
        NEW_YORK,
        "30 1,2 * * *",
        "2026-11-01T00:30-04:00",
        ["2026-11-01 01:30-0400", "2026-11-01 02:30-0500", "2026-11-02 01:30-0500"],
    ),
    # Lord Howe: clocks move by half an hour, 02:00 becomes 02:30 on 4 October, 02:00 becomes 01:30
    # on 5 April.
    "half an hour: a fixed time in the gap": (
        LORD_HOWE,
        "10 2 * * *",
        "2026-10-03T12:00+10:30",
        ["2026-10-04 02:30+1100", "2026-10-05 02:10+1100"],
    ),
    "half an hour: every quarter over the gap": (
        LORD_HOWE,
        "*/15 * * * *",
        "2026-10-04T01:30+10:30",
        ["2026-10-04 01:45+1030", "2026-10-04 02:30+1100", "2026-10-04 02:45+1100"],
    ),
    "half an hour: a fixed time in the repeated half": (
        LORD_HOWE,
        "45 1 * * *",
        "2026-04-04T12:00+11:00",
        ["2026-04-05 01:45+1100", "2026-04-06 01:45+1030"],
    ),
    "half an hour: every quarter in the repeated half": (
        LORD_HOWE,
        "*/15 * * * *",
        "2026-04-05T01:15+11:00",
        [
            "2026-04-05 01:30+1100",
            "2026-04-05 01:45+1100",
            "2026-04-05 01:30+1030",
            "2026-04-05 01:45+1030",
            "2026-04-05 02:00+1030",
        ],
    ),
    # cronsim itself jumps a whole hour here
    "half an hour: one minute of every hour comes twice": (
        LORD_HOWE,
        "45 * * * *",
        "2026-04-05T01:00+11:00",
        ["2026-04-05 01:45+1100", "2026-04-05 01:45+1030", "2026-04-05 02:45+1030"],
    ),
    "half an hour: every second hour": (  # and here it leaves 02:15 out
        LORD_HOWE,
        "15 */2 * * *",
        "2026-04-05T01:00+11:00",
        ["2026-04-05 02:15+1030", "2026-04-05 04:15+1030"],
    ),
    # Havana: 00:00 becomes 01:00 on 8 March, 01:00 becomes 00:00 on 1 November.
    "a midnight that does not exist": (
        HAVANA,
        "@daily",
        "2026-03-06T12:00-05:00",
        ["2026-03-07 00:00-0500", "2026-03-08 01:00-0400", "2026-03-09 00:00-0400"],
    ),
    "a midnight that comes twice": (
        HAVANA,
        "@daily",
        "2026-10-31T12:00-04:00",
        ["2026-11-01 00:00-0400", "2026-11-02 00:00-0500"],
    ),
    "a wildcard line at a midnight that does not exist": (  # cronsim itself returns 00:00
        HAVANA,
        "0 */6 * * SUN",
        "2026-03-07T12:00-05:00",
        ["2026-03-08 06:00-0400", "2026-03-08 12:00-0400"],
    ),
    # Beirut: 00:00 becomes 01:00 on 29 March, 00:00 of 25 October becomes 23:00 of the 24th.
    "a gap at midnight": (
        BEIRUT,
        "30 0 * * *",
        "2026-03-28T12:00+02:00",
        ["2026-03-29 01:00+0300", "2026-03-30 00:30+0300"],
    ),
    "the last hour of a day comes twice, fixed": (
        BEIRUT,
        "30 23 * * *",
        "2026-10-24T12:00+03:00",
        ["2026-10-24 23:30+0300", "2026-10-25 23:30+0200"],
    ),
    "the last hour of a day comes twice, every hour": (
        BEIRUT,
        "@hourly",
        "2026-10-24T22:30+03:00",
        ["2026-10-24 23:00+0300", "2026-10-24 23:00+0200", "2026-10-25 00:00+0200"],
    ),
    "the midnight after a repeated hour": (
        BEIRUT,
        "@daily",
        "2026-10-24T12:00+03:00",
        ["2026-10-25 00:00+0200", "2026-10-26 00:00+0200"],
    ),
    # Troll: two hours, 01:00 becomes 03:00 on 29 March.
    "two hours": (
        TROLL,
        "30 1 * * *",
        "2026-03-28T12:00+00:00",
        ["2026-03-29 03:00+0200", "2026-03-30 01:30+0200"],
    ),
    # Apia: the whole 30 December 2011 was left out.
    "a day that does not exist": (
        "Pacific/Apia",
        "0 8 * * *",
        "2011-12-29T00:00-10:00",
        ["2011-12-29 08:00-1000", "2011-12-31 00:00+1400", "2011-12-31 08:00+1400"],
    ),
    "a zone without clock changes": (
        "Asia/Tokyo",
        "30 2 * * *",
        "2026-03-08T00:00+09:00",
        ["2026-03-08 02:30+0900", "2026-03-09 02:30+0900"],
    ),
    "UTC": (
        "UTC",
        "30 2 * * *",
        "2026-03-08T00:00+00:00",
        ["2026-03-08 02:30+0000", "2026-03-09 02:30+0000"],
    ),
}


@pytest.mark.parametrize(
    ("place", "line", "after", "expected"), CLOCK_CHANGES.values(), ids=CLOCK_CHANGES
)
def test_runs_where_a_clock_changes(place: str, line: str, after: str, expected: list[str]) -> None:
    assert shown(next_runs(line, place, at(after), len(expected))) == expected


@pytest.mark.parametrize(
    ("place", "line", "after", "expected"), CLOCK_CHANGES.values(), ids=CLOCK_CHANGES
)
def test_previous_run_is_the_inverse_of_next_runs(
    place: str, line: str, after: str, expected: list[str]
) -> None:
    runs = next_runs(line, place, at(after), len(expected))
    assert before_each(line, place, runs[1:]) == in_utc(runs[:-1])
    assert before_each(
        line, place, [run + timedelta(microseconds=1) for run in in_utc(runs)]
    ) == in_utc(runs)


RESEEDED = {
    "from the run itself": ("2026-11-01T05:30:00+00:00", "2026-11-02 01:30-0500"),
    "from the first pass, after the run": ("2026-11-01T01:45-04:00", "2026-11-02 01:30-0500"),
    "from the second pass, before its wall time": (
        "2026-11-01T01:15-05:00",
        "2026-11-02 01:30-0500",
    ),
    "from the second pass, after its wall time": (
        "2026-11-01T01:45-05:00",
        "2026-11-02 01:30-0500",
    ),
    "from the start of the second pass": ("2026-11-01T06:00:00+00:00", "2026-11-02 01:30-0500"),
    "a microsecond before the run": ("2026-11-01T05:29:59.999999+00:00", "2026-11-01 01:30-0400"),
    "a microsecond after the run": ("2026-11-01T05:30:00.000001+00:00", "2026-11-02 01:30-0500"),
    "in another zone": ("2026-11-01T14:30+09:00", "2026-11-02 01:30-0500"),
}


@pytest.mark.parametrize(("after", "expected"), RESEEDED.values(), ids=RESEEDED)
def test_a_run_is_never_found_twice(after: str, expected: str) -> None:
    assert shown(next_runs("30 1 * * *", NEW_YORK, at(after), 1)) == [expected]


def test_the_run_after_a_gap_is_not_found_twice() -> None:
    run = at("2026-03-08T03:00-04:00")
    for later in (
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(seconds=59),
        timedelta(hours=3),
    ):
        assert shown(next_runs("30 2 * * *", NEW_YORK, run + later, 1)) == ["2026-03-09 02:30-0400"]


def test_the_second_pass_keeps_its_fold() -> None:
    first, second = (
        next_runs("0 1 1 11 *", NEW_YORK, NOON, 1)[0],
        next_runs("0 * * * *", NEW_YORK, NOON, 3700),
    )
    assert first.fold == 0 and first.utcoffset() == timedelta(hours=-4)
    assert in_utc([run for run in second if run.fold == 1]) == [at("2026-11-01T06:00+00:00")]


def test_after_may_be_given_in_the_second_pass_by_fold() -> None:
    quarter_past = datetime(2026, 11, 1, 1, 15, tzinfo=ZoneInfo(NEW_YORK), fold=1)
    assert shown(next_runs("*/30 * * * *", NEW_YORK, quarter_past, 1)) == ["2026-11-01 01:30-0500"]
    assert shown(next_runs("*/30 * * * *", NEW_YORK, quarter_past.replace(fold=0), 1)) == [
        "2026-11-01 01:30-0400"
    ]


# --- plain runs -----------------------------------------------------------------------------------

PLAIN = [
    ("*/15 * * * *", ["2026-06-01 12:15", "2026-06-01 12:30"]),
    ("7 12 * * *", ["2026-06-02 12:07"]),
    ("8 12 * * *", ["2026-06-01 12:08"]),
    ("0 9 * * 1", ["2026-06-08 09:00"]),
    ("0 9 * * mon-fri", ["2026-06-02 09:00"]),
    ("0 9 * * 7", ["2026-06-07 09:00"]),
    ("0 9 * * 5L", ["2026-06-26 09:00"]),
    ("0 9 * * tue#2", ["2026-06-09 09:00"]),
    ("0 0 1 * *", ["2026-07-01 00:00"]),
    ("0 0 L * *", ["2026-06-30 00:00", "2026-07-31 00:00"]),
    (
        "0 0 LW * *",
        [
            "2026-06-30 00:00",
            "2026-07-31 00:00",
            "2026-08-31 00:00",
            "2026-09-30 00:00",
            "2026-10-30 00:00",
        ],
    ),
    ("0 0 13 * FRI", ["2026-06-05 00:00", "2026-06-12 00:00", "2026-06-13 00:00"]),
    ("0 0 */2 * FRI", ["2026-06-05 00:00", "2026-06-19 00:00", "2026-07-03 00:00"]),
    ("0 0 29 2 *", ["2028-02-29 00:00", "2032-02-29 00:00"]),
    ("0 0 31 * *", ["2026-07-31 00:00", "2026-08-31 00:00", "2026-10-31 00:00"]),
    ("0 0 30 2 MON", ["2027-02-01 00:00"]),
    ("@yearly", ["2027-01-01 00:00"]),
    ("@annually", ["2027-01-01 00:00"]),
    ("@monthly", ["2026-07-01 00:00"]),
    ("@weekly", ["2026-06-07 00:00"]),
    ("@daily", ["2026-06-02 00:00"]),
    ("@midnight", ["2026-06-02 00:00"]),
    ("@HOURLY", ["2026-06-01 13:00"]),
    ("  0   8 * * *\t", ["2026-06-02 08:00"]),
]


@pytest.mark.parametrize(("line", "expected"), PLAIN)
def test_plain_runs(line: str, expected: list[str]) -> None:
    assert [
        f"{run:%Y-%m-%d %H:%M}" for run in next_runs(line, "UTC", NOON, len(expected))
    ] == expected


def test_runs_are_aware_in_the_zone_and_strictly_after() -> None:
    (run,) = next_runs("0 8 * * *", NEW_YORK, at("2026-06-01T12:00:00+00:00"), 1)
    assert run == at("2026-06-02T08:00-04:00")
    assert run.tzinfo is ZoneInfo(NEW_YORK)


def test_iterate_is_lazy_but_validates_at_once() -> None:
    assert len(list(islice(iterate("* * * * *", NEW_YORK, NOON), 1000))) == 1000
    with pytest.raises(CronError):
        iterate("61 * * * *", NEW_YORK, NOON)


@pytest.mark.parametrize("line", ["0 8 * * *", "@every 90", "*/10 * * * * *"])
def test_naive_datetimes_are_refused(line: str) -> None:
    naive = datetime(2026, 6, 1)
    for ask in (
        lambda: next_runs(line, "UTC", naive, 1),
        lambda: iterate(line, "UTC", naive),
        lambda: previous_run(line, "UTC", naive),
        lambda: edges(line, "UTC", naive),
        lambda: next_runs(line, "UTC", NOON, 1, anchor=naive),
    ):
        with pytest.raises(
            ValueError, match=r"is datetime.datetime\(.*, a naive datetime: give it a time zone"
        ):
            ask()


def test_a_count_below_zero_is_refused() -> None:
    assert next_runs("* * * * *", "UTC", NOON, 0) == []
    with pytest.raises(ValueError, match="count is -1"):
        next_runs("* * * * *", "UTC", NOON, -1)


@pytest.mark.parametrize(
    "line", ["0 0 29 2 *", "*/15 * * * *", "*/10 * * * * *", "@every 90d", "* * * 2 MON#5"]
)
@pytest.mark.parametrize("place", ["UTC", "Pacific/Kiritimati", "America/Adak"])
def test_the_calendar_ends_and_begins_without_an_error(line: str, place: str) -> None:
    end, beginning = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    left = next_runs(line, place, end - timedelta(minutes=40), 100_000)
    assert len(left) < 300
    assert previous_run(line, place, beginning + timedelta(seconds=5)) in (None, beginning)


def test_rare_runs_are_found() -> None:
    # A 29 February that is a Monday: 2096 would be one, 2100 is no leap year.
    assert shown(next_runs("0 0 * 2 MON#5", "UTC", at("2072-03-01T00:00:00+00:00"), 1)) == [
        "2112-02-29 00:00+0000"
    ]
    assert previous_run("0 0 * 2 MON#5", "UTC", at("2112-02-29T00:00:00+00:00")) == at(
        "2072-02-29T00:00:00+00:00"
    )


def test_a_next_run_is_cheap() -> None:
    """It takes about 25 microseconds; this only notices a search that has become linear."""
    each = (
        min(timeit.repeat(lambda: next_runs("0 8 * * *", NEW_YORK, NOON, 1), number=200, repeat=5))
        / 200
    )
    assert each < 0.000_5
    spans = min(timeit.repeat(lambda: edges("30 2 * * *", NEW_YORK, NOON), number=5, repeat=3)) / 5
    assert spans < 0.01


# --- seconds --------------------------------------------------------------------------------------


def clocks(line: str, after: str, count: int, place: str = NEW_YORK) -> list[str]:
    return [f"{run:%d %H:%M:%S%z}" for run in next_runs(line, place, at(after), count)]


SECONDS = {
    "first field": (
        "*/20 * * * * *",
        "2026-06-01T12:07:40-04:00",
        ["01 12:08:00-0400", "01 12:08:20-0400"],
    ),
    "within the minute": (
        "5,50 7 12 * * *",
        "2026-06-01T12:07:05-04:00",
        ["01 12:07:50-0400", "02 12:07:05-0400"],
    ),
    "a fraction": ("5 * * * * *", "2026-06-01T12:07:04.999999-04:00", ["01 12:07:05-0400"]),
    "just after": ("5 * * * * *", "2026-06-01T12:07:05.000001-04:00", ["01 12:08:05-0400"]),
    "a gap": (
        "10,40 30 2 * * *",
        "2026-03-07T12:00-05:00",
        ["08 03:00:10-0400", "08 03:00:40-0400", "09 02:30:10-0400"],
    ),
    "a gap, two minutes": (
        "10 0,30 2 * * *",
        "2026-03-07T12:00-05:00",
        ["08 03:00:10-0400", "09 02:00:10-0400"],
    ),
    "over a gap": (
        "*/30 * * * * *",
        "2026-03-08T01:59:30-05:00",
        ["08 03:00:00-0400", "08 03:00:30-0400"],
    ),
    "repeated, fixed": (
        "10 30 1 * * *",
        "2026-10-31T12:00-04:00",
        ["01 01:30:10-0400", "02 01:30:10-0500"],
    ),
    "repeated, wildcard": (
        "10 */30 1 * * *",
        "2026-11-01T01:00:10-04:00",
        ["01 01:30:10-0400", "01 01:00:10-0500", "01 01:30:10-0500", "02 01:00:10-0500"],
    ),
}


@pytest.mark.parametrize(("line", "after", "expected"), SECONDS.values(), ids=SECONDS)
def test_a_sixth_field_in_front_is_the_seconds(line: str, after: str, expected: list[str]) -> None:
    assert clocks(line, after, len(expected)) == expected
    runs = next_runs(line, NEW_YORK, at(after), len(expected))
    assert before_each(line, NEW_YORK, runs[1:]) == in_utc(runs[:-1])


def test_every_second_over_a_repeated_hour_is_every_real_second() -> None:
    after = at("2026-11-01T05:59:30+00:00")
    runs = next_runs("* * * * * *", NEW_YORK, after, 60)
    assert in_utc(runs) == [after + timedelta(seconds=second) for second in range(1, 61)]


# --- intervals ------------------------------------------------------------------------------------


def test_an_interval_is_a_line() -> None:
    assert str(Every(90)) == "@every 90"
    assert str(Every(1.5)) == "@every 1.5"
    assert str(Every(0.1)) == "@every 0.1"
    assert str(Every(0.000001)) == "@every 0.000001"
    assert str(Every(timedelta(minutes=15))) == "@every 900"
    assert Every(90) == Every(timedelta(seconds=90)) and hash(Every(90)) == hash(Every(90.0))
    assert next_runs(Every(90), "UTC", NOON, 3) == next_runs("@every 90", "UTC", NOON, 3)
    assert parse(Every(90)) == parse("@every 90")


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("@every 90", 90),
        ("@every 1.5", 1.5),
        ("@every 0.1", 0.1),
        ("@every 90s", 90),
        ("@EVERY 15M", 900),
        ("@every 1.5h", 5400),
        ("@every  2 d", 172_800),
    ],
)
def test_intervals_count_real_seconds_from_their_anchor(line: str, seconds: float) -> None:
    anchor = at("2026-06-01T00:00:00.250000+00:00")
    runs = next_runs(line, NEW_YORK, anchor, 3, anchor)
    assert runs == [anchor + n * timedelta(seconds=seconds) for n in (1, 2, 3)]
    assert previous_run(line, NEW_YORK, runs[0], anchor) == anchor
    assert previous_run(line, NEW_YORK, runs[0] + timedelta(microseconds=1), anchor) == runs[0]


def test_an_interval_does_not_drift() -> None:
    years_later = at("2046-01-01T00:00:00.05+00:00")
    assert next_runs("@every 0.1", "UTC", years_later, 2) == [
        at("2046-01-01T00:00:00.1+00:00"),
        at("2046-01-01T00:00:00.2+00:00"),
    ]


def test_an_interval_ignores_clock_changes() -> None:
    anchor = at("2026-11-01T00:30-04:00")
    assert shown(next_runs("@every 1h", NEW_YORK, anchor, 3, anchor)) == [
        "2026-11-01 01:30-0400",
        "2026-11-01 01:30-0500",
        "2026-11-01 02:30-0500",
    ]
    # Aware arithmetic in one zone is arithmetic on the wall: that an anchor is in such a zone must
    # not matter.
    local = anchor.astimezone(ZoneInfo(NEW_YORK))
    assert next_runs("@every 1h", NEW_YORK, local, 3, local) == next_runs(
        "@every 1h", NEW_YORK, anchor, 3, anchor
    )


def test_the_default_anchor_is_the_epoch() -> None:
    assert next_runs("@every 1h", "UTC", NOON, 1) == [at("2026-06-01T13:00+00:00")]


def test_an_interval_also_runs_before_its_anchor() -> None:
    anchor = at("2026-06-01T00:00:10+00:00")
    assert next_runs("@every 60", "UTC", at("2026-05-31T23:58:00+00:00"), 1, anchor) == [
        at("2026-05-31T23:58:10+00:00")
    ]


@pytest.mark.parametrize(
    "seconds", [0, -1, float("nan"), float("inf"), 1e-7, 4e8, "90", True, None, timedelta(0)]
)
def test_invalid_intervals(seconds: object) -> None:
    with pytest.raises(CronError, match="^interval .* is not "):
        Every(seconds)  # type: ignore[arg-type]


# --- refusals -------------------------------------------------------------------------------------

REFUSED = [
    ("61 * * * *", "minute 61 is above 59"),
    ("* 24 * * *", "hour 24 is above 23: midnight is 0"),
    ("* 25 * * *", "hour 25 is above 23"),
    ("* * 0 * *", "day of the month 0 is below 1"),
    ("* * 32 * *", "day of the month 32 is above 31"),
    ("* * * 13 *", "month 13 is above 12"),
    ("* * * * 8", "weekday 8 is above 7"),
    ("60 * * * * *", "second 60 is above 59"),
    ("a * * * *", "minute 'a' is not a number"),
    ("* * * Foo *", "month 'Foo' is not a number or a name such as JAN"),
    ("* * * * Mond", "weekday 'Mond' is not a number or a name such as SUN"),
    ("٣ * * * *", "minute '٣' is not a number"),
    ("H * * * *", "minute 'H' is not a number"),
    ("", "it is empty: write one such as '0 8 * * *', minute hour day month weekday"),
    (
        "* * * *",
        "it has 4 fields, not 5 (minute hour day month weekday) or 6 (with the seconds first)",
    ),
    (
        "* * * * * * *",
        "it has 7 fields, not 5 (minute hour day month weekday) or 6 (with the seconds first)",
    ),
    (
        "tomorrow",
        "it has 1 field, not 5 (minute hour day month weekday) or 6 (with the seconds first)",
    ),
    ("5,,6 * * * *", "minute '5,,6' has a missing value"),
    ("5- * * * *", "minute '5-' has a missing value"),
    ("-5 * * * *", "minute '-5' has a missing value"),
    ("*/ * * * *", "minute '*/' has a missing value"),
    ("*/0 * * * *", "minute step '0' is not a whole number above 0"),
    ("*/x * * * *", "minute step 'x' is not a whole number above 0"),
    ("*/90 * * * *", "minute step 90 is above 59: for an interval write '@every 90m'"),
    ("0 */36 * * *", "hour step 36 is above 23: for an interval write '@every 36h'"),
    ("0 0 1 */13 *", "month step 13 is above 12"),
    ("0 22-2 * * *", "hour 22-2 runs backwards: write 22-23,0-2"),
    ("0 23-0 * * *", "hour 23-0 runs backwards: write 23,0"),
    ("0 0 * * sat-sun", "weekday sat-sun runs backwards: write sat,sun"),
    ("0 0 * * FRI-MON", "weekday FRI-MON runs backwards: write FRI-SAT,SUN-MON"),
    ("0 0 * * 6-1", "weekday 6-1 runs backwards: write 6,0-1"),
    ("0 0 * NOV-FEB *", "month NOV-FEB runs backwards: write NOV-DEC,JAN-FEB"),
    ("0 0 ? * *", "day of the month '?' is not supported: write *"),
    ("0 0 15W * *", "day of the month '15W' is not a number"),
    ("0 0 * * FRIL", "weekday 'FRIL' is invalid: for the last Friday of the month write 5L"),
    ("0 0 * * MON#6", "weekday 'MON#6' is invalid: after # write a number from 1 to 5"),
    ("0 0 30 2 *", "it can never run: no date has day of the month 30 and month 2"),
    ("0 0 31 4,6 *", "it can never run: no date has day of the month 31 and month 4,6"),
    (
        "0 0 */30 2 1#5",
        "it can never run: no date has day of the month */30, month 2 and weekday 1#5",
    ),
    ("@dayly", "did you mean '@daily'?"),
    (
        "@reboot",
        "use @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly or '@every 60'",
    ),
    (
        "@every",
        "write '@every' and one number with s, m, h or d, such as '@every 90' or '@every 15m'",
    ),
    (
        "@every -5",
        "write '@every' and one number with s, m, h or d, such as '@every 90' or '@every 15m'",
    ),
    (
        "@every 1h30m",
        "write '@every' and one number with s, m, h or d, such as '@every 90' or '@every 15m'",
    ),
    (
        "@every 1e9",
        "write '@every' and one number with s, m, h or d, such as '@every 90' or '@every 15m'",
    ),
    ("@every 0", "interval 0 is not between a microsecond and 3650 days"),
    ("@every 0.0000001", "interval 0.0000001 is not between a microsecond and 3650 days"),
    ("@every 9999d", "interval 9999d is not between a microsecond and 3650 days"),
]


@pytest.mark.parametrize(("line", "fault"), REFUSED)
def test_errors_name_line_field_value_and_fix(line: str, fault: str) -> None:
    with pytest.raises(CronError) as caught:
        parse(line)
    assert str(caught.value) == f"{line!r} is not a cron line: {fault}"
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, WellosJobsError)


@pytest.mark.parametrize(("line", "fault"), [case for case in REFUSED if "backwards" in case[1]])
def test_the_suggested_range_is_valid(line: str, fault: str) -> None:
    wrong, fix = fault.split(" runs backwards: write ")
    parse(line.replace(wrong.rpartition(" ")[2], fix))


@pytest.mark.parametrize("line", [None, 5, b"* * * * *", timedelta(60), ["*"] * 5])
def test_other_types_are_refused(line: object) -> None:
    with pytest.raises(CronError, match="is not a cron line: give text such as"):
        parse(line)  # type: ignore[arg-type]


def test_a_very_long_line_is_refused_and_shown_short() -> None:
    with pytest.raises(CronError) as caught:
        parse("1," * 5000 + "1 * * * *")
    assert "it has 10009 characters, more than 255" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_parse_is_cached_and_keeps_the_line() -> None:
    assert parse("0 8 * * *") is parse("0  8 * * * ")
    assert parse("  @Daily ").line == "@Daily"


# --- zones ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (
            "Amerika/New_York",
            "'Amerika/New_York' is not a time zone: did you mean 'America/New_York'?",
        ),
        (
            "america/new_york",
            "'america/new_york' is not a time zone: did you mean 'America/New_York'?",
        ),
        ("new york", "'new york' is not a time zone: did you mean 'America/New_York'?"),
        ("Berlin", "'Berlin' is not a time zone: did you mean 'Europe/Berlin'?"),
        ("+02:00", "'+02:00' is not a time zone: use an IANA name such as 'Europe/Paris'"),
        ("", "'' is not a time zone: use an IANA name such as 'Europe/Paris'"),
        ("America", "'America' is not a time zone: use an IANA name such as 'Europe/Paris'"),
        (
            "../etc/passwd",
            "'../etc/passwd' is not a time zone: use an IANA name such as 'Europe/Paris'",
        ),
        (
            "localtime",
            "'localtime' is not the same zone on every host: use a name such as 'UTC' or "
            "'Europe/Paris'",
        ),
    ],
)
def test_an_unknown_zone_suggests_the_closest(name: str, fault: str) -> None:
    for ask in (
        lambda: zone(name),
        lambda: next_runs("* * * * *", name, NOON, 1),
        lambda: Cron("* * * * *", name),
    ):
        with pytest.raises(CronError) as caught:
            ask()
        assert str(caught.value) == fault


def test_a_zone_may_be_a_zoneinfo() -> None:
    assert zone(NEW_YORK) is ZoneInfo(NEW_YORK)
    assert zone(ZoneInfo(NEW_YORK)) is ZoneInfo(NEW_YORK)
    for other in (None, UTC, timezone(timedelta(hours=2)), 5):
        with pytest.raises(CronError, match="is not a time zone: give an IANA name"):
            zone(other)  # type: ignore[arg-type]


def test_a_zoneinfo_without_a_key_is_refused() -> None:
    counts = struct.pack(">6l", 0, 0, 0, 0, 1, 4)  # one offset and the four bytes of its name
    compiled = b"TZif" + bytes(16) + counts + struct.pack(">lBB", 3600, 0, 0) + b"HER\0"
    with pytest.raises(CronError, match="has no key, so it cannot be stored"):
        zone(ZoneInfo.from_file(io.BytesIO(compiled)))


# --- Cron -----------------------------------------------------------------------------------------


def test_cron_is_a_frozen_value_checked_when_made() -> None:
    cron = Cron("0  8 * * *", tz=NEW_YORK)
    assert (cron.line, cron.zone_name) == ("0 8 * * *", NEW_YORK)
    assert cron == Cron("0 8 * * *", ZoneInfo(NEW_YORK)) and hash(cron) == hash(
        Cron("0 8 * * *", NEW_YORK)
    )
    assert Cron(Every(90)).line == "@every 90" and Cron("@daily").zone_name is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        cron.line = "* * * * *"  # type: ignore[misc]
    with pytest.raises(CronError, match="minute 61 is above 59"):
        Cron("61 * * * *")
    with pytest.raises(CronError, match="'Mars' is not a time zone"):
        Cron("0 8 * * *", tz="Mars")


# --- words ----------------------------------------------------------------------------------------

DESCRIBED = [
    ("0 8 * * *", "at 08:00 every day"),
    ("*/15 * * * *", "every 15 minutes"),
    ("* * * * *", "every minute"),
    ("@daily", "at 00:00 every day"),
    ("@hourly", "every hour"),
    ("@weekly", "at 00:00 every Sunday"),
    ("@monthly", "at 00:00 on the 1st of every month"),
    ("@yearly", "at 00:00 on 1 January"),
    ("30 * * * *", "at 30 minutes past every hour"),
    ("1 * * * *", "at 1 minute past every hour"),
    ("0 8,20 * * *", "at 08:00 and 20:00 every day"),
    ("0 1-5/2 * * *", "at 01:00, 03:00 and 05:00 every day"),
    ("0 9 * * 1", "at 09:00 every Monday"),
    ("0 9 * * 1-5", "at 09:00, Monday to Friday"),
    ("0 0 * * 0,5,6", "at 00:00, Friday to Sunday"),
    ("0 9 * * mon,wed,fri", "at 09:00 every Monday, Wednesday and Friday"),
    ("0 9 * * 5L", "at 09:00 on the last Friday of the month"),
    ("0 9 * * MON,TUE#2", "at 09:00 every Monday and on the second Tuesday of the month"),
    ("0 12 * JAN MON#1", "at 12:00 on the first Monday of the month in January"),
    ("0 0 1,15 * *", "at 00:00 on the 1st and the 15th of every month"),
    ("0 0 22,23 * *", "at 00:00 on the 22nd and the 23rd of every month"),
    ("0 0 11-13 * *", "at 00:00 on the 11th to the 13th of every month"),
    ("0 0 L * *", "at 00:00 on the last day of every month"),
    ("0 0 LW * *", "at 00:00 on the last workday of every month"),
    ("0 0 1,L 6 *", "at 00:00 on the 1st and the last day of June"),
    ("0 0 29 2 *", "at 00:00 on 29 February"),
    ("0 0 1 1,7 *", "at 00:00 on the 1st of January and July"),
    ("0 0 1 JAN-MAR *", "at 00:00 on the 1st of January to March"),
    ("0 0 * 2 *", "at 00:00 every day in February"),
    ("*/5 * * 3 *", "every 5 minutes, every day in March"),
    ("*/20 * * * 1", "every 20 minutes, every Monday"),
    ("0 9 1 * MON", "at 09:00 on the 1st of every month and every Monday"),
    ("0 9 1 5 MON", "at 09:00 on the 1st of every month and every Monday, in May"),
    ("0 0 1-31 * MON", "at 00:00 every day"),
    ("0 0 1 * 0-6", "at 00:00 every day"),
    (
        "0 9 */2 * MON",
        "at 09:00 on every second day from the 1st to the 31st of every month if it is a Monday",
    ),
    (
        "0 9 */15 * 5L",
        "at 09:00 on the 1st, the 16th and the 31st of every month if it is the last Friday of the "
        "month",
    ),
    ("*/15 9-17 * * *", "every 15 minutes from 09:00 to 17:45 every day"),
    ("30 9-17 * * 1-5", "every hour from 09:30 to 17:30, Monday to Friday"),
    ("* 4 * * *", "every minute from 04:00 to 04:59 every day"),
    ("10-20 11 * * *", "every minute from 11:10 to 11:20 every day"),
    ("0 */2 * * *", "every 2 hours"),
    ("15 */2 * * *", "every 2 hours, at 15 minutes past the hour"),
    ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00 every day"),
    ("*/15 */3 * * *", "every 15 minutes in every third hour"),
    ("*/15 1,5 * * *", "every 15 minutes in hours 1 and 5 every day"),
    ("3,17,44 8,12,19 * * *", "at 3, 17 and 44 minutes past hours 8, 12 and 19 every day"),
    ("*/7 * * * *", "every 7 minutes from 0 to 56 minutes past every hour"),
    ("* * * * * *", "every second"),
    ("*/10 * * * * *", "every 10 seconds"),
    ("30 * * * * *", "at 30 seconds past every minute"),
    ("0 30 8 * * *", "at 08:30 every day"),
    ("5,20 30 8 * * *", "at 08:30 every day, at 5 and 20 seconds past the minute"),
    ("*/10 30 2 * * *", "at 02:30 every day, every 10 seconds of the minute"),
    ("@every 1", "every second"),
    ("@every 90", "every 90 seconds"),
    ("@every 1.5", "every 1.5 seconds"),
    ("@every 15m", "every 15 minutes"),
    ("@every 3600", "every hour"),
    ("@every 1d", "every 24 hours"),
]


@pytest.mark.parametrize(("line", "words"), DESCRIBED)
def test_a_line_in_plain_english(line: str, words: str) -> None:
    assert describe(line) == words


def test_describe_takes_intervals_and_refuses_invalid_lines() -> None:
    assert describe(Every(timedelta(minutes=15))) == "every 15 minutes"
    with pytest.raises(CronError, match="minute 61"):
        describe("61 * * * *")


EDGES = {
    "fixed": (
        NEW_YORK,
        "30 2 * * *",
        [("2026-03-08 03:00-0400", "02:30 does not exist on 2026-03-08; it runs at 03:00")],
    ),
    "fixed, twice": (
        NEW_YORK,
        "30 1 * * *",
        [("2026-11-01 01:30-0400", "01:30 comes twice on 2026-11-01; it runs once")],
    ),
    "fixed, both": (
        NEW_YORK,
        "0 1-3 * * *",
        [
            ("2026-03-08 03:00-0400", "02:00 does not exist on 2026-03-08; it runs at 03:00"),
            ("2026-11-01 01:00-0400", "01:00 comes twice on 2026-11-01; it runs once"),
        ],
    ),
    "fixed, many": (
        NEW_YORK,
        "0-59 2 * * *",
        [
            (
                "2026-03-08 03:00-0400",
                "02:00 to 02:59 do not exist on 2026-03-08; one run replaces them, at 03:00",
            )
        ],
    ),
    "wildcard": (
        NEW_YORK,
        "*/30 1,2 * * *",
        [
            (
                "2026-03-08 03:00-0400",
                "02:00 and 02:30 do not exist on 2026-03-08; those runs are skipped",
            ),
            (
                "2026-11-01 01:00-0400",
                "01:00 and 01:30 come twice on 2026-11-01; they run both times",
            ),
        ],
    ),
    "wildcard, one": (
        NEW_YORK,
        "0 */2 * * *",
        [("2026-03-08 03:00-0400", "02:00 does not exist on 2026-03-08; that run is skipped")],
    ),
    "midnight": (
        HAVANA,
        "@daily",
        [
            ("2026-03-08 01:00-0400", "00:00 does not exist on 2026-03-08; it runs at 01:00"),
            ("2026-11-01 00:00-0400", "00:00 comes twice on 2026-11-01; it runs once"),
        ],
    ),
    "into the next day": (
        "America/Nuuk",
        "30 23 * * *",
        [
            (
                "2026-03-29 00:00-0100",
                "23:30 does not exist on 2026-03-28; it runs at 00:00 on 2026-03-29",
            ),
            ("2026-10-24 23:30-0100", "23:30 comes twice on 2026-10-24; it runs once"),
        ],
    ),
    "another weekday": (NEW_YORK, "30 2 * * MON", []),
    "every interval": (NEW_YORK, "*/15 * * * *", []),
    "every hour": (NEW_YORK, "@hourly", []),
    "real seconds": (NEW_YORK, "@every 1h", []),
    "no clock changes": ("UTC", "30 2 * * *", []),
    "away from the change": (NEW_YORK, "0 8 * * *", []),
}


@pytest.mark.parametrize(("place", "line", "expected"), EDGES.values(), ids=EDGES)
def test_edges_describe_clock_changes(
    place: str, line: str, expected: list[tuple[str, str]]
) -> None:
    found = edges(line, place, at("2026-01-01T00:00+00:00"), days=360)
    assert [(shown([run])[0], note) for run, note in found] == expected


def test_edges_are_limited_to_the_given_days() -> None:
    new_year = at("2026-01-01T00:00+00:00")
    assert edges("30 2 * * *", NEW_YORK, new_year, days=30) == []
    assert len(edges("30 1,2 * * *", NEW_YORK, new_year, days=800)) == 4
    assert edges("30 1 * * *", NEW_YORK, at("2026-11-01T01:40-04:00"), days=30) == []
