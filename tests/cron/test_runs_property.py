"""Cron lines over every zone of tzdata, around each of its clock changes of 2024 to 2030, against
brute force.

Brute force is the rule in its plainest form. It goes through the real minutes around a change and
reads the clock at each. A wildcard line runs in every minute whose wall time it chooses. A fixed
line runs, for each wall time it chooses, in the first minute at which the clock shows that time or
a later one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim, CronSimError

from wellos_jobs.cron import edges, iterate, next_runs, parse, previous_run
from wellos_jobs.cron.description import describe_fields
from wellos_jobs.cron.fields import parse_fields
from wellos_jobs.errors import CronError

SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)

WILDCARD = [
    "*/7 * * * *",
    "*/15 * * * *",
    "45 * * * *",
    "@hourly",
    "5 */2 * * *",
    "*/20 0-3,22-23 * * *",
    "0,20-40 */3 * * *",
]
FIXED = [
    "0 0-23 * * *",
    "0,30 0-5,20-23 * * *",
    "15 1-3 * * *",
    "10-50/20 0,1,2,3,23 * * *",
    "@daily",
    "30 2 * * *",
]
SECONDS = [
    "20,50 */10 * * * *",
    "10 30 * * * *",
    "5,55 15,45 0-23 * * *",
    "0,30 10 0,1,2,3,23 * * *",
]
ONCE_A_DAY = [
    "@daily",
    "30 0 * * *",
    "0 1 * * *",
    "30 1 * * *",
    "15 2 * * *",
    "0 3 * * *",
    "30 23 * * *",
]


# --- the zones ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One clock change: the first instant of the new offset."""

    at: datetime
    old: timedelta
    new: timedelta


@dataclass(frozen=True)
class Clock:
    """A zone, for all zones that change their clocks at the same instants by the same amounts."""

    zone: ZoneInfo
    changes: tuple[Change, ...]


def offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).replace(tzinfo=UTC) - instant


def changes_of(zone: ZoneInfo) -> Iterator[Change]:
    low, old = FIRST, offset(zone, FIRST)
    while low < LAST:
        high = low + 2 * DAY
        new = offset(zone, high)
        if new != old:
            yield Change(halve(zone, low, high), old, new)
        low, old = high, new


def halve(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    old = offset(zone, low)
    while high - low > SECOND:
        middle = low + (high - low) // SECOND // 2 * SECOND
        low, high = (middle, high) if offset(zone, middle) == old else (low, middle)
    return high


@pytest.fixture(scope="module")
def clocks() -> list[Clock]:
    found: dict[tuple[Change, ...], Clock] = {}
    for name in sorted(available_timezones()):
        clock = Clock(ZoneInfo(name), tuple(changes_of(ZoneInfo(name))))
        found.setdefault(clock.changes, clock)
    found.pop((), None)  # no changes, no edges
    assert len(found) > 25, "the zones of this machine's tzdata do not look right"
    return list(found.values())


# --- brute force ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Minutes:
    """The real minutes of a span of time with what the clock shows in each, read once for all
    lines."""

    zone: ZoneInfo
    start: datetime
    walls: list[datetime]

    @classmethod
    def around(cls, zone: ZoneInfo, middle: datetime, reach: timedelta) -> Minutes:
        start = middle - reach
        instants = [start + n * MINUTE for n in range(2 * reach // MINUTE)]
        return cls(
            zone,
            start,
            [instant.astimezone(zone).replace(tzinfo=None, fold=0) for instant in instants],
        )

    @property
    def end(self) -> datetime:
        return self.start + len(self.walls) * MINUTE

    def runs(self, line: Chooser) -> list[datetime]:
        """The runs of a line from the first of these minutes on, the end left out."""
        if line.is_fixed:
            minutes = self._first_minutes(line)
        else:
            minutes = [n for n, wall in enumerate(self.walls) if line.chooses(wall)]
        return [
            self.start + n * MINUTE + second * SECOND for n in minutes for second in line.seconds
        ]

    def _first_minutes(self, line: Chooser) -> list[int]:
        found: list[int] = []
        wall, n = self.walls[0], 0
        while n < len(self.walls):
            if self.walls[n] < wall:
                n += 1  # the clock is not there yet; in a second pass it has been there before
                continue
            if line.chooses(wall) and n not in found[-1:]:
                found.append(n)
            wall += MINUTE
        return found


class Chooser:
    """Which wall times a line chooses, read from its text anew and in the plainest way."""

    def __init__(self, line: str) -> None:
        line = {"@daily": "0 0 * * *", "@hourly": "0 * * * *"}.get(line, line)
        parts = line.split()
        second, minute, hour, self.day, month, self.weekday = (
            parts if len(parts) == 6 else ["0", *parts]
        )
        self.seconds = sorted(self.values(second, 0, 59))
        self.minutes, self.hours = self.values(minute, 0, 59), self.values(hour, 0, 23)
        self.months = self.values(month, 1, 12)
        self.is_fixed = "*" not in minute + hour
        self.dates: dict[date, bool] = {}

    @staticmethod
    def values(text: str, low: int, high: int) -> set[int]:
        found = set()
        for term in text.split(","):
            base, _, step = term.partition("/")
            first, _, last = (f"{low}-{high}" if base == "*" else base).partition("-")
            found.update(
                range(int(first), int(last or (high if step else first)) + 1, int(step or 1))
            )
        return found

    def chooses(self, wall: datetime) -> bool:
        if (
            wall.minute not in self.minutes
            or wall.hour not in self.hours
            or wall.month not in self.months
        ):
            return False
        day = wall.date()
        if day not in self.dates:
            self.dates[day] = self.chooses_date(day)
        return self.dates[day]

    def chooses_date(self, day: date) -> bool:
        by_day = any(self._day_fits(term, day) for term in self.day.split(","))
        by_weekday = any(self._weekday_fits(term, day) for term in self.weekday.split(","))
        both = self.day.startswith("*") or self.weekday.startswith("*")
        return (by_day and by_weekday) if both else (by_day or by_weekday)

    def _day_fits(self, term: str, day: date) -> bool:
        month_ends = (day + DAY).month != day.month
        if term == "L":
            return month_ends
        if term == "LW":
            rest_is_weekend = all(
                (day + n * DAY).weekday() > 4
                for n in range(1, 3)
                if (day + n * DAY).month == day.month
            )
            return day.weekday() < 5 and (day + 3 * DAY).month != day.month and rest_is_weekend
        return day.day in self.values(term, 1, 31)

    def _weekday_fits(self, term: str, day: date) -> bool:
        if term.endswith("L"):
            return day.isoweekday() % 7 == int(term[:-1]) % 7 and (day + 7 * DAY).month != day.month
        if "#" in term:
            weekday, nth = map(int, term.split("#"))
            return day.isoweekday() % 7 == weekday % 7 and (day.day - 1) // 7 + 1 == nth
        return day.isoweekday() % 7 in {value % 7 for value in self.values(term, 0, 7)}


CHOOSERS = {line: Chooser(line) for line in WILDCARD + FIXED + SECONDS}


def runs_between(line: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """The runs from ``start`` on, the end left out, as they come: in the zone."""
    after = start - timedelta(microseconds=1)
    return list(takewhile(lambda run: run.astimezone(UTC) < end, iterate(line, zone, after)))


# --- the properties -------------------------------------------------------------------------------


@pytest.mark.system
def test_every_line_runs_as_brute_force_says_in_every_zone_at_every_clock_change(
    clocks: list[Clock],
) -> None:
    for clock in clocks:
        for change in clock.changes:
            minutes = Minutes.around(clock.zone, change.at, 150 * MINUTE)
            for line, chooser in CHOOSERS.items():
                runs = runs_between(line, clock.zone, minutes.start, minutes.end)
                said = f"{line} in {clock.zone.key} at {change.at}"
                assert [run.astimezone(UTC) for run in runs] == minutes.runs(chooser), said
                check_runs(runs, said)


def check_runs(runs: list[datetime], said: str) -> None:
    """Strictly rising in real time, none twice, and each one a time that the clock of the zone
    shows."""
    instants = [run.astimezone(UTC) for run in runs]
    assert all(before < after for before, after in pairwise(instants)), said
    for run, instant in zip(runs, instants, strict=True):
        again = instant.astimezone(run.tzinfo)
        assert (again.replace(tzinfo=None), again.fold) == (run.replace(tzinfo=None), run.fold), (
            said
        )


def test_the_answer_does_not_depend_on_the_start(clocks: list[Clock]) -> None:
    chance = random.Random(20260308)
    for clock in clocks:
        for change in clock.changes:
            line = chance.choice(WILDCARD + FIXED + SECONDS)
            start, end = change.at - 3 * HOUR, change.at + 3 * HOUR
            runs = [run.astimezone(UTC) for run in runs_between(line, clock.zone, start, end)]
            for earlier, later in pairwise(runs):
                said = f"{line} in {clock.zone.key} after {earlier}"
                between = earlier + chance.random() * (later - earlier)
                assert next_runs(line, clock.zone, earlier, 1)[0].astimezone(UTC) == later, said
                assert next_runs(line, clock.zone, between, 1)[0].astimezone(UTC) == later, said
                before = previous_run(line, clock.zone, later)
                assert before is not None and before.astimezone(UTC) == earlier, said


def test_a_fixed_time_runs_once_on_every_local_day(clocks: list[Clock]) -> None:
    for clock in clocks:
        for change in clock.changes:
            today = change.at.astimezone(clock.zone).date()
            days = [today + n * DAY for n in range(-3, 4)]
            for line in ONCE_A_DAY:
                (minute,), (hour,) = parse_times(line)
                expected = [
                    instant_of(clock, change, datetime.combine(day, time(hour, minute)))
                    for day in days
                ]
                runs = next_runs(line, clock.zone, expected[0] - MINUTE, len(days))
                assert [run.astimezone(UTC) for run in runs] == expected, (
                    f"{line} in {clock.zone.key} at {change.at}"
                )


def parse_times(line: str) -> tuple[set[int], set[int]]:
    chooser = Chooser(line)
    return chooser.minutes, chooser.hours


def instant_of(clock: Clock, change: Change, wall: datetime) -> datetime:
    """The first instant that shows a wall time; where none does, the clock change that left it
    out."""
    instant = wall.replace(tzinfo=clock.zone, fold=0).astimezone(UTC)
    shows = instant.astimezone(clock.zone).replace(tzinfo=None)
    return instant if shows == wall else change.at


def test_edges_find_the_clock_changes_and_only_those(clocks: list[Clock]) -> None:
    """A line for each minute of the day, as fixed times, is touched by every change: one note for
    each."""
    for clock in clocks:
        found = edges("0-59 0-23 * * *", clock.zone, FIRST, days=(LAST - FIRST).days)
        gaps = [run.astimezone(UTC) for run, note in found if "not exist" in note]
        repeats = [run.astimezone(UTC) for run, note in found if "twice" in note]
        said = clock.zone.key
        assert gaps == [change.at for change in clock.changes if change.new > change.old], said
        assert repeats == [
            change.at - (change.old - change.new)
            for change in clock.changes
            if change.new < change.old
        ], said


# --- lines made by chance -------------------------------------------------------------------------


def any_field(chance: random.Random, low: int, high: int, extras: list[str]) -> str:
    first, last = sorted(chance.sample(range(low, high + 1), 2))
    return chance.choice(
        [
            "*",
            "*",
            f"*/{chance.randint(1, high)}",
            str(first),
            f"{first},{last}",
            f"{first}-{last}",
            f"{first}-{last}/{chance.randint(1, high)}",
            f"{first}/{chance.randint(1, high)}",
            f"{last},{first}-{last}/2,*/{high}",
            *extras,
        ]
    )


def any_line(chance: random.Random) -> str:
    weekday, other = chance.randint(0, 7), chance.randint(0, 7)
    fields = [
        any_field(chance, 0, 59, []),
        any_field(chance, 0, 23, []),
        any_field(chance, 1, 31, ["*", "*", "*", "L", "LW", "1,L"]),
        any_field(chance, 1, 12, ["*", "*", "*", "*", "*", "*"]),
        any_field(
            chance,
            0,
            7,
            ["*", "*", "*", f"{weekday}L", f"{weekday}#{chance.randint(1, 5)},{other}"],
        ),
    ]
    return " ".join(fields if chance.random() < 0.8 else [any_field(chance, 0, 59, []), *fields])


def test_any_line_runs_as_brute_force_says() -> None:
    chance = random.Random(20261101)
    spans = [
        Minutes.around(ZoneInfo("America/New_York"), datetime(2026, 11, 1, 6, tzinfo=UTC), 3 * DAY),
        Minutes.around(ZoneInfo("America/Havana"), datetime(2026, 3, 8, 5, tzinfo=UTC), 3 * DAY),
        Minutes.around(
            ZoneInfo("Australia/Lord_Howe"), datetime(2026, 4, 4, 15, tzinfo=UTC), 3 * DAY
        ),
    ]
    checked = 0
    while checked < 250:
        line, minutes = any_line(chance), chance.choice(spans)
        try:
            parse(line)
        except CronError as error:
            assert "it can never run" in str(error), line
            continue
        checked += 1
        expected = minutes.runs(Chooser(line))
        start = minutes.start - timedelta(microseconds=1)
        few = [run.astimezone(UTC) for run in next_runs(line, minutes.zone, start, 40)]
        assert [run for run in few if run < minutes.end] == expected[:40], (
            f"{line} in {minutes.zone.key}"
        )
        last = previous_run(line, minutes.zone, minutes.end)
        if expected:
            assert last is not None and last.astimezone(UTC) == expected[-1], (
                f"{line} in {minutes.zone.key}"
            )
        else:
            assert last is None or last.astimezone(UTC) < minutes.start, (
                f"{line} in {minutes.zone.key}"
            )


def test_every_valid_line_can_be_iterated_and_described() -> None:
    """Whatever ``read`` lets pass, cronsim takes too (a date that never comes apart); whatever it
    refuses is said."""
    chance = random.Random(5)
    alphabet = "0123456789*,-/#L WLMONJAN?"
    read_well = 0
    for _ in range(20_000):
        line = any_line(chance)
        for _ in range(chance.randint(0, 2)):
            where = chance.randrange(len(line))
            line = line[:where] + chance.choice(alphabet) + line[where + chance.randint(0, 1) :]
        try:
            fields = parse_fields(line)
        except CronError:
            continue
        read_well += 1
        try:
            CronSim(line, datetime(2026, 1, 1))
        except CronSimError as error:
            assert str(error) == "Bad day-of-month", line  # its word for a date that never comes
        words = describe_fields(fields)
        assert words and "  " not in words and "None" not in words, line
    assert read_well > 5_000
