"""When a schedule runs: ``(line, zone, after) -> next runs``.

Pure: no clock, no Redis, no database. A line is five cron fields, six with the seconds first, a
macro such as ``@daily``, or ``@every 90``, an interval. ``docs/schedules-dst.md`` has the rule for
clock changes, in words and as a table.

How it works: the fields match *wall* times; cronsim finds the days in naive datetimes, where the
clock never changes. Each wall time has instants: a fixed time (no star in minute and hour) exactly
one, a time of a wildcard line as many as it occurs (none in a gap, two in a repeated hour). So the
runs are one fixed set of instants, and the next run is the first of the set after ``after``: the
answer does not depend on where the search started.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo

from .description import describe_gap, describe_repeat
from .expressions import CronExpression, Every, Expression, Interval, parse
from .zones import (
    ClockChange,
    clock_change_at,
    clock_changes,
    every_instant,
    one_instant,
    to_wall,
    zone,
)

__all__ = [
    "Cron",
    "Every",
    "Expression",
    "describe",
    "edges",
    "iterate",
    "next_runs",
    "parse",
    "previous_run",
    "shortest_gap",
    "zone",
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The default anchor of intervals."""

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, init=False)
class Cron:
    """A cron line and its time zone, validated at once.

    Args:
        line: cron fields, a macro, or an interval.
        tz: an IANA name or a ``ZoneInfo``; None: the organization's time zone, else the project's.

    Raises:
        CronError: the line or the zone is invalid.
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
    """Return the next runs, in the zone, strictly after ``after``; fewer only at the year 9999.

    Compare them in UTC: Python compares two datetimes of one zone by their wall time, so a run in
    the second pass of a repeated hour can seem to come before one in the first.

    Args:
        anchor: where an interval is counted from; ignored by cron lines.

    Raises:
        CronError: the line or the zone is invalid.
        ValueError: a naive datetime, or a negative count.
    """
    if count < 0:
        raise ValueError(f"count is {count}: it must be 0 or more")
    return list(islice(iterate(line, zone_, after, anchor), count))


def iterate(
    line: str | Every, zone_: str | ZoneInfo, after: datetime, anchor: datetime | None = None
) -> Iterator[datetime]:
    """Return an iterator over the runs strictly after ``after``. It is practically endless.

    Raises: as ``next_runs``, before the first run.
    """
    return _runs(
        parse(line), zone(zone_), _instant("after", after), _instant("anchor", anchor or EPOCH)
    )


def previous_run(
    line: str | Every, zone_: str | ZoneInfo, before: datetime, anchor: datetime | None = None
) -> datetime | None:
    """Return the last run strictly before ``before``, in the zone; None if there is none.

    Raises: as ``next_runs``.
    """
    expression, tz = parse(line), zone(zone_)
    before, anchor = _instant("before", before), _instant("anchor", anchor or EPOCH)
    try:
        run = _previous(expression, tz, before, anchor)
        return run and run.astimezone(tz)
    except OverflowError:  # before the year 1
        return None


def _instant(name: str, value: datetime) -> datetime:
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError(f"{name} is {value!r}, a naive datetime: give it a time zone")
    return value.astimezone(UTC)


def _runs(
    expression: Expression, tz: ZoneInfo, after: datetime, anchor: datetime
) -> Iterator[datetime]:
    try:
        run = _next(expression, tz, after, anchor)
        while run is not None:
            yield run.astimezone(tz)
            run = _next(expression, tz, run, anchor)
    except OverflowError:  # after the year 9999
        return


def _next(
    expression: Expression, tz: ZoneInfo, after: datetime, anchor: datetime
) -> datetime | None:
    if isinstance(expression, Interval):
        return anchor + ((after - anchor) // expression.period + 1) * expression.period
    if expression.seconds == (0,):
        return _next_minute(expression, tz, after)

    minute = _next_minute(expression, tz, after - _MINUTE)
    while minute is not None:
        for second in expression.seconds:
            if minute + second * _SECOND > after:
                return minute + second * _SECOND
        minute = _next_minute(expression, tz, minute)
    return None


def _previous(
    expression: Expression, tz: ZoneInfo, before: datetime, anchor: datetime
) -> datetime | None:
    if isinstance(expression, Interval):
        return anchor - ((anchor - before) // expression.period + 1) * expression.period

    minute = _previous_minute(expression, tz, before)
    while minute is not None:
        for second in reversed(expression.seconds):
            if minute + second * _SECOND < before:
                return minute + second * _SECOND
        minute = _previous_minute(expression, tz, minute)
    return None


# --- minutes under clock changes ------------------------------------------------------------------


def _next_minute(expression: CronExpression, tz: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first matching minute after an instant."""
    wall = to_wall(tz, after)
    run = _first(expression, tz, wall, after)
    if expression.is_fixed or wall.fold:
        return run

    change = clock_change_at(tz, wall)
    if change is None or change.is_gap or (run is not None and run < change.at):
        return run

    # In the first pass of a repeated hour with no run left: the wall times of the hour start over.
    return _first(expression, tz, change.start - _SECOND, change.at - _SECOND)


def _previous_minute(expression: CronExpression, tz: ZoneInfo, before: datetime) -> datetime | None:
    """Return the last matching minute before an instant: ``_next_minute`` in reverse."""
    wall = to_wall(tz, before)
    if not wall.fold:
        return _last(expression, tz, wall, before)

    change = clock_change_at(tz, wall)
    run = None if expression.is_fixed else _last(expression, tz, wall, before)
    if change is None or (run is not None and run >= change.at):
        return run
    return _last(expression, tz, change.end, before if expression.is_fixed else change.at)


def _first(
    expression: CronExpression, tz: ZoneInfo, wall: datetime, after: datetime
) -> datetime | None:
    """Return the first instant after ``after`` of the wall times after ``wall``."""
    for later in expression.walls_after(wall):
        for run in _instants(expression, tz, later):
            if run > after:
                return run
    return None


def _last(
    expression: CronExpression, tz: ZoneInfo, wall: datetime, before: datetime
) -> datetime | None:
    """Return the last instant before ``before`` of the wall times before ``wall``."""
    for earlier in expression.walls_before(wall):
        for run in reversed(_instants(expression, tz, earlier)):
            if run < before:
                return run
    return None


def _instants(expression: CronExpression, tz: ZoneInfo, wall: datetime) -> tuple[datetime, ...]:
    return (one_instant(tz, wall),) if expression.is_fixed else every_instant(tz, wall)


# --- in words ------------------------------------------------------------------------------------


def shortest_gap(line: str | Every) -> timedelta:
    """Return a lower bound for the time between two runs: a minute for lines without seconds.

    Raises:
        CronError: the line is invalid.
    """
    return parse(line).shortest_gap


def describe(line: str | Every) -> str:
    """Describe a line in plain English, in lower case: ``at 08:00 every day``.

    Raises:
        CronError: the line is invalid.
    """
    return parse(line).describe()


def edges(
    line: str | Every, zone_: str | ZoneInfo, after: datetime, days: float = 400
) -> list[tuple[datetime, str]]:
    """Return the runs of the coming days that a clock change affects, with what happens to them.

    One entry for each clock change that affects any. Intervals and lines that run every hour of the
    day have none, because clock changes do not make them wait longer than they say.

    Raises: as ``next_runs``.
    """
    expression, tz = parse(line), zone(zone_)
    after = _instant("after", after)
    if isinstance(expression, Interval) or (
        not expression.is_fixed and expression.fields.hour.is_any
    ):
        return []
    found = []
    for change in clock_changes(tz, after, after + timedelta(days=days)):
        walls = _walls_within(expression, change)
        if walls:
            found.append(_edge(expression, tz, change, walls))
    return [(run, note) for run, note in found if run > after]


def _edge(
    expression: CronExpression, tz: ZoneInfo, change: ClockChange, walls: list[datetime]
) -> tuple[datetime, str]:
    """Return the run of the wall times that a clock change affects, and what happens to them."""
    if change.is_gap:
        run = change.at.astimezone(tz)
        return run, describe_gap(walls, run, once=expression.is_fixed)

    run = one_instant(tz, walls[0]).astimezone(tz)
    return run, describe_repeat(walls, once=expression.is_fixed)


def _walls_within(expression: CronExpression, change: ClockChange) -> list[datetime]:
    """Return the matching minutes that are skipped, or occur twice."""
    return list(
        takewhile(lambda wall: wall < change.end, expression.walls_after(change.start - _SECOND))
    )
