"""When a schedule runs: ``(line, zone, after) -> next runs``. Pure: no clock, no Redis, no database.

A line is five cron fields, six with the seconds first, a macro such as ``@daily``, or ``@every
90``, an interval. The rule where a zone changes its clock, in words and as a table, is in
``docs/schedules-dst.md``.

How it works: the fields choose *wall* times; cronsim walks the days on naive datetimes, where no
clock ever changes. Each wall time stands for instants: a fixed time (no star in minute and hour)
for exactly one, a time of a wildcard line for as many as there are. The runs are thereby one fixed
set of instants, and the next run is the least one of the set after ``after``: asking again from any
run gives the same answer, whatever happened in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo

from .description import tell_gap, tell_repeat
from .expressions import Calendar, Every, Interval, Plan, parse
from .zones import Turn, every_instant, one_instant, to_wall, turn_at, turns, zone

__all__ = [
    "Cron",
    "Every",
    "Plan",
    "describe",
    "edges",
    "iterate",
    "next_runs",
    "parse",
    "previous_run",
    "zone",
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The anchor of an interval that is given none."""

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, init=False)
class Cron:
    """A line and the zone it is meant in, checked when it is made.

    Args:
        line: cron fields, a macro, or an interval.
        tz: an IANA name or a ``ZoneInfo``; None leaves it to who uses it (organization, then
            project).

    Raises:
        CronError: the line or the zone does not exist.
    """

    line: str
    zone_name: str | None

    def __init__(self, line: str | Every, tz: str | ZoneInfo | None = None) -> None:
        object.__setattr__(self, "line", parse(line).line)
        object.__setattr__(self, "zone_name", None if tz is None else zone(tz).key)


# --- runs -----------------------------------------------------------------------------------------


def next_runs(
    line: str | Every,
    zone_: str | ZoneInfo,
    after: datetime,
    count: int,
    anchor: datetime | None = None,
) -> list[datetime]:
    """Return the next runs, in the zone, strictly after ``after``; fewer only when the calendar ends (year 9999).

    Compare them in UTC: Python compares two datetimes of one zone by the wall, so that a run of the
    second pass of a repeated hour seems to come before one of the first.

    Args:
        anchor: where an interval is counted from; cron lines take no notice of it.

    Raises:
        CronError: the line or the zone does not exist.
        ValueError: a naive datetime, or a negative count.
    """
    if count < 0:
        raise ValueError(f"count is {count}: it must be 0 or more")
    return list(islice(iterate(line, zone_, after, anchor), count))


def iterate(
    line: str | Every, zone_: str | ZoneInfo, after: datetime, anchor: datetime | None = None
) -> Iterator[datetime]:
    """Return an iterator over the runs strictly after ``after``. As good as endless: stop it yourself.

    Raises: as ``next_runs``, and at once.
    """
    return _runs(
        parse(line), zone(zone_), _instant("after", after), _instant("anchor", anchor or EPOCH)
    )


def previous_run(
    line: str | Every, zone_: str | ZoneInfo, before: datetime, anchor: datetime | None = None
) -> datetime | None:
    """Return the last run strictly before ``before``, in the zone; None when the calendar begins with none.

    Raises: as ``next_runs``.
    """
    plan, place = parse(line), zone(zone_)
    before, anchor = _instant("before", before), _instant("anchor", anchor or EPOCH)
    try:
        run = _previous(plan, place, before, anchor)
        return run and run.astimezone(place)
    except OverflowError:  # before the year 1
        return None


def _instant(name: str, value: datetime) -> datetime:
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError(f"{name} is {value!r}, a naive datetime: give it a time zone")
    return value.astimezone(UTC)


def _runs(plan: Plan, place: ZoneInfo, after: datetime, anchor: datetime) -> Iterator[datetime]:
    try:
        run = _next(plan, place, after, anchor)
        while run is not None:
            yield run.astimezone(place)
            run = _next(plan, place, run, anchor)
    except OverflowError:  # after the year 9999
        return


def _next(plan: Plan, place: ZoneInfo, after: datetime, anchor: datetime) -> datetime | None:
    if isinstance(plan, Interval):
        return anchor + ((after - anchor) // plan.period + 1) * plan.period
    if plan.seconds == (0,):
        return _next_minute(plan, place, after)
    minute = _next_minute(plan, place, after - _MINUTE)
    while minute is not None:
        for second in plan.seconds:
            if minute + second * _SECOND > after:
                return minute + second * _SECOND
        minute = _next_minute(plan, place, minute)
    return None


def _previous(plan: Plan, place: ZoneInfo, before: datetime, anchor: datetime) -> datetime | None:
    if isinstance(plan, Interval):
        return anchor - ((anchor - before) // plan.period + 1) * plan.period
    minute = _previous_minute(plan, place, before)
    while minute is not None:
        for second in reversed(plan.seconds):
            if minute + second * _SECOND < before:
                return minute + second * _SECOND
        minute = _previous_minute(plan, place, minute)
    return None


# --- minutes under clock changes ------------------------------------------------------------------


def _next_minute(plan: Calendar, place: ZoneInfo, after: datetime) -> datetime | None:
    """The first minute the fields choose, after an instant."""
    wall = to_wall(place, after)
    run = _first(plan, place, wall, after)
    if plan.is_fixed or wall.fold:
        return run
    turn = turn_at(place, wall)
    if turn is None or turn.is_gap or (run is not None and run < turn.at):
        return run
    # In the first pass of a repeated hour, with no run left in it: the wall times of the hour begin
    # again.
    return _first(plan, place, turn.start - _SECOND, turn.at - _SECOND)


def _previous_minute(plan: Calendar, place: ZoneInfo, before: datetime) -> datetime | None:
    """The last minute the fields choose, before an instant: the mirror of ``_next_minute``."""
    wall = to_wall(place, before)
    if not wall.fold:
        return _last(plan, place, wall, before)
    turn = turn_at(place, wall)
    run = None if plan.is_fixed else _last(plan, place, wall, before)
    if turn is None or (run is not None and run >= turn.at):
        return run
    return _last(plan, place, turn.end, before if plan.is_fixed else turn.at)


def _first(plan: Calendar, place: ZoneInfo, wall: datetime, after: datetime) -> datetime | None:
    """The first instant after ``after`` of the wall times after ``wall``."""
    return next(
        (
            run
            for later in plan.walls_after(wall)
            for run in _instants(plan, place, later)
            if run > after
        ),
        None,
    )


def _last(plan: Calendar, place: ZoneInfo, wall: datetime, before: datetime) -> datetime | None:
    """The last instant before ``before`` of the wall times before ``wall``."""
    return next(
        (
            run
            for earlier in plan.walls_before(wall)
            for run in reversed(_instants(plan, place, earlier))
            if run < before
        ),
        None,
    )


def _instants(plan: Calendar, place: ZoneInfo, wall: datetime) -> tuple[datetime, ...]:
    return (one_instant(place, wall),) if plan.is_fixed else every_instant(place, wall)


# --- for people -----------------------------------------------------------------------------------


def describe(line: str | Every) -> str:
    """Return what a line means in plain English, beginning in lower case: ``at 08:00 every day``.

    Raises:
        CronError: it is no line.
    """
    return parse(line).describe()


def edges(
    line: str | Every, zone_: str | ZoneInfo, after: datetime, days: float = 400
) -> list[tuple[datetime, str]]:
    """Return the runs of the coming days that a clock change touches, with what happens to them.

    One entry for each clock change that touches any; lines that run every hour of the day, and
    intervals, have none, because no clock change makes them wait longer than they say.

    Raises: as ``next_runs``.
    """
    plan, place = parse(line), zone(zone_)
    after = _instant("after", after)
    if isinstance(plan, Interval) or (not plan.is_fixed and plan.fields.hour.is_any):
        return []
    found = []
    for turn in turns(place, after, after + timedelta(days=days)):
        walls = _walls_within(plan, turn)
        if walls:
            run = (turn.at if turn.is_gap else one_instant(place, walls[0])).astimezone(place)
            note = (
                tell_gap(walls, run, once=plan.is_fixed)
                if turn.is_gap
                else tell_repeat(walls, once=plan.is_fixed)
            )
            found.append((run, note))
    return [(run, note) for run, note in found if run > after]


def _walls_within(plan: Calendar, turn: Turn) -> list[datetime]:
    """The chosen minutes that fall out, or come twice."""
    return list(takewhile(lambda wall: wall < turn.end, plan.walls_after(turn.start - _SECOND)))
