"""Parses cron lines, macros and intervals. Pure."""

from __future__ import annotations

import copy
import difflib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Final

from cronsim import CronSim, CronSimError

from ..errors import CronError
from . import description
from .fields import Fields, parse_fields

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MAX_INTERVAL: Final = timedelta(days=3650)

_EVERY = re.compile(r"@every\s+([0-9]{1,12}(?:\.[0-9]{1,9})?)\s?([smhd]?)", re.IGNORECASE)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_LAST_MINUTE = _DAY - _MINUTE
_ANY_DAY = datetime(2000, 1, 1)


@dataclass(frozen=True, init=False)
class Every:
    """A fixed interval, for use in place of a cron line. Clock changes do not affect it.

    Runs are at ``anchor + n * seconds`` for every integer n, so they never drift. Exact to
    the microsecond.

    Raises:
        CronError: it is not a number of seconds or a ``timedelta`` between a microsecond and ten
            years.
    """

    seconds: float

    def __init__(self, seconds: float | timedelta) -> None:
        object.__setattr__(self, "seconds", _period(seconds, repr(seconds)) / _SECOND)

    def __str__(self) -> str:
        """Return the line: ``@every 90``."""
        return f"@every {description.plain_seconds(_period(self.seconds, repr(self.seconds)))}"


@dataclass(frozen=True)
class Interval:
    """An interval, parsed."""

    line: str
    """As given, with single spaces."""
    period: timedelta

    @property
    def shortest_gap(self) -> timedelta:
        """The time between two runs."""
        return self.period

    def describe(self) -> str:
        """Describe it in plain English."""
        return description.describe_interval(self.period)


@dataclass(frozen=True)
class CronExpression:
    """A cron line, parsed: the wall times it matches, in minutes, and the seconds within each."""

    line: str
    """As given, with single spaces."""
    fields: Fields = field(repr=False)
    is_fixed: bool = field(repr=False)
    """Whether each wall time runs exactly once, also where the clock changes."""
    seconds: tuple[int, ...] = field(repr=False)
    _times: tuple[int, ...] = field(repr=False)
    """The matching minutes of a day, counted from midnight, in order."""
    _upwards: CronSim = field(repr=False, compare=False)
    """Iterates over the matching days, at their first minute."""
    _downwards: CronSim = field(repr=False, compare=False)
    """Iterates over the matching days backwards, at their last minute."""

    @property
    def shortest_gap(self) -> timedelta:
        """A lower bound for the time between two runs."""
        if len(self.seconds) == 1:
            return _MINUTE

        gaps = [later - earlier for earlier, later in pairwise(self.seconds)]
        minutes = set(self.fields.minute.values)
        if any((minute + 1) % 60 in minutes for minute in minutes):
            gaps.append(60 - self.seconds[-1] + self.seconds[0])
        return min(gaps) * _SECOND

    # cronsim finds the days; the minutes of a day are added here. cronsim alone would step through
    # every hour, which takes three times as long.

    def walls_after(self, wall: datetime) -> Iterator[datetime]:
        """Yield the matching minutes after the minute of a wall time, up to the year 9999."""
        today = datetime.combine(wall, time.min)
        start = bisect_right(self._times, (wall - today) // _MINUTE)
        days = copy.copy(self._upwards)
        days.dt = today - _MINUTE if start < len(self._times) else today + _LAST_MINUTE

        for day in days:
            first = start if day == today else 0
            yield from (day + minute * _MINUTE for minute in self._times[first:])
            days.dt = day + _LAST_MINUTE

    def walls_before(self, wall: datetime) -> Iterator[datetime]:
        """Yield the matching minutes before a wall time, latest first, down to the year 1."""
        today = datetime.combine(wall, time.min)
        # A minute that has begun counts as before the wall time, hence rounded up.
        end = bisect_left(self._times, -((today - wall) // _MINUTE))
        days = copy.copy(self._downwards)
        days.dt = today + _DAY if end else today

        for last_minute in days:
            day = last_minute - _LAST_MINUTE
            stop = end if day == today else len(self._times)
            yield from (day + minute * _MINUTE for minute in reversed(self._times[:stop]))
            days.dt = day

    def describe(self) -> str:
        """Describe it in plain English."""
        return description.describe_fields(self.fields)


Expression = Interval | CronExpression


def parse(line: str | Every) -> Expression:
    """Parse a cron line, a macro or an interval.

    Raises:
        CronError: it is invalid, or can never run. The message names line, field, value and fix.
    """
    if not isinstance(line, str | Every):
        raise CronError(
            f"{line!r} is not a cron line: give text such as '0 8 * * *', or Every(seconds)"
        )
    return _parse(" ".join(str(line).split()))


@lru_cache(maxsize=2048)
def _parse(line: str) -> Expression:
    try:
        return _interval(line) if line.lower().startswith("@every") else _cron(line)
    except CronError as error:
        shown = line if len(line) < 80 else f"{line[:76]} ..."
        raise CronError(f"{shown!r} is not a cron line: {error}") from None


def _interval(line: str) -> Expression:
    match = _EVERY.fullmatch(line)
    if match is None:
        raise CronError(
            "write '@every' and one number with s, m, h or d, such as '@every 90' or '@every 15m'"
        )
    number, unit = match.groups()
    period = _period(Decimal(number) * _UNITS[unit.lower()], number + unit)
    return Interval(line, period)


def _period(seconds: float | Decimal | timedelta, shown: str) -> timedelta:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | Decimal | timedelta):
        raise CronError(f"interval {shown} is not a number of seconds or a timedelta")
    if isinstance(seconds, timedelta):
        period = seconds
    elif 0 <= seconds <= MAX_INTERVAL / _SECOND:  # False for NaN
        period = round(seconds * 1_000_000) * _MICROSECOND
    else:
        period = timedelta(0)
    if not _MICROSECOND <= period <= MAX_INTERVAL:
        raise CronError(
            f"interval {shown} is not between a microsecond and {MAX_INTERVAL.days} days"
        )
    return period


def _cron(line: str) -> Expression:
    fields = parse_fields(_without_macro(line))
    days = " ".join(_without_macro(line).split()[-3:])
    try:
        upwards = CronSim(f"0 0 {days}", _ANY_DAY)
        downwards = CronSim(f"59 23 {days}", _ANY_DAY, reverse=True)
    except CronSimError:  # each field is valid by itself, so no date matches all of them
        raise CronError(_never(days)) from None
    # Dates fall on the same weekdays again after 28 years; cronsim gives up after 50.
    if next(copy.copy(upwards), None) is None:
        raise CronError(_never(days))

    times = tuple(
        hour * 60 + minute for hour in fields.hour.values for minute in fields.minute.values
    )
    return CronExpression(
        line, fields, fields.is_fixed, fields.second.values, times, upwards, downwards
    )


def _without_macro(line: str) -> str:
    if not line.startswith("@"):
        return line
    if line.lower() in MACROS:
        return MACROS[line.lower()]
    close = difflib.get_close_matches(line.lower(), [*MACROS, "@every 60"], n=1)
    if close:
        raise CronError(f"did you mean {close[0]!r}?")
    raise CronError(f"use {', '.join(MACROS)} or '@every 60'")


def _never(days: str) -> str:
    names = ("day of the month", "month", "weekday")
    chosen = zip(names, days.split(), strict=True)
    restricted = [f"{name} {text}" for name, text in chosen if text != "*"]
    return f"it can never run: no date has {description.listed(restricted)}"
