"""When a schedule runs: ``(line, zone, after) -> next runs``. Pure: no clock, no Redis, no database.

A line is five cron fields, six with the seconds first, a macro such as ``@daily``, or ``@every 90``, an interval. The
rule where a zone changes its clock, in words and as a table, is in ``docs/schedules-dst.md``.

How it works: the fields choose *wall* times, walked by cronsim on naive datetimes, where no clock ever changes. Each
wall time stands for instants: a fixed time (no star in minute and hour) for exactly one, a time of a wildcard line for
as many as there are. The runs are thereby one fixed set of instants, and the next run is the least one of the set after
``after``: asking again from any run gives the same answer, whatever happened in between.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from . import cron_text
from .cron_fields import Fields, read
from .errors import CronError
from .zones import every_instant, one_instant, to_wall, turn_at, zone

__all__ = ["Cron", "Every", "Plan", "describe", "iterate", "next_runs", "parse", "previous_run", "zone"]

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The anchor of an interval that is given none."""
LONGEST_INTERVAL: Final = timedelta(days=3650)

_EVERY = re.compile(r"@every\s+([0-9]{1,12}(?:\.[0-9]{1,9})?)\s?([smhd]?)", re.IGNORECASE)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_ANY_DAY = datetime(2000, 1, 1)


@dataclass(frozen=True, init=False)
class Every:
    """A fixed interval in real seconds: it takes no notice of clock changes. Give it wherever a cron line can stand.

    Runs are at ``anchor + n * seconds`` for every whole n, so they never drift. Exact to the microsecond.

    Raises:
        CronError: not a number of seconds or a ``timedelta`` between a microsecond and ten years.
    """

    seconds: float

    def __init__(self, seconds: float | timedelta) -> None:
        object.__setattr__(self, "seconds", _period(seconds, repr(seconds)) / _SECOND)

    def __str__(self) -> str:
        """The line: ``@every 90``."""
        return f"@every {cron_text.plain_seconds(_period(self.seconds, repr(self.seconds)))}"


type_of_line = str | Every


@dataclass(frozen=True, init=False)
class Cron:
    """A line and the zone it is meant in, checked when it is made.

    Args:
        line: cron fields, a macro, or an interval.
        tz: an IANA name or a ``ZoneInfo``; None leaves it to who uses it (organization, then project).

    Raises:
        CronError: the line or the zone does not exist.
    """

    line: str
    zone_name: str | None

    def __init__(self, line: str | Every, tz: str | ZoneInfo | None = None) -> None:
        object.__setattr__(self, "line", parse(line).line)
        object.__setattr__(self, "zone_name", None if tz is None else zone(tz).key)


@dataclass(frozen=True)
class Plan:
    """A line, read and checked."""

    line: str
    """As it was given, with single spaces."""
    every: timedelta | None
    """The interval; None for a cron line."""
    fields: Fields | None = field(repr=False, compare=False)
    """The fields; None for an interval."""
    minutes: str = field(repr=False, compare=False)
    """The five fields that choose the minutes."""
    walker: CronSim | None = field(repr=False, compare=False)


# --- reading ---------------------------------------------------------------------------------------------


def parse(line: str | Every) -> Plan:
    """Return the plan of a line.

    Raises:
        CronError: it is no line, or one that can never run; the text names line, field, value and mend.
    """
    if not isinstance(line, str | Every):
        raise CronError(f"{line!r} is not a cron line: give text such as '0 8 * * *', or Every(seconds)")
    return _parse(" ".join(str(line).split()))


@lru_cache(maxsize=2048)
def _parse(line: str) -> Plan:
    try:
        return _interval(line) if line.lower().startswith("@every") else _cron(line)
    except CronError as error:
        shown = line if len(line) < 80 else f"{line[:76]} ..."
        raise CronError(f"{shown!r} is not a cron line: {error}") from None


def _interval(line: str) -> Plan:
    match = _EVERY.fullmatch(line)
    if match is None:
        raise CronError("write '@every' and one number with s, m, h or d, such as '@every 90' or '@every 15m'")
    number, unit = match.groups()
    period = _period(Decimal(number) * _UNITS[unit.lower()], number + unit)
    return Plan(line, period, None, "", None)


def _period(seconds: float | Decimal | timedelta, shown: str) -> timedelta:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | Decimal | timedelta):
        raise CronError(f"interval {shown} is not a number of seconds or a timedelta")
    if isinstance(seconds, timedelta):
        period = seconds
    elif 0 <= seconds <= LONGEST_INTERVAL / _SECOND:  # False for NaN
        period = round(seconds * 1_000_000) * _MICROSECOND
    else:
        period = timedelta(0)
    if not _MICROSECOND <= period <= LONGEST_INTERVAL:
        raise CronError(f"interval {shown} is not between a microsecond and {LONGEST_INTERVAL.days} days")
    return period


def _cron(line: str) -> Plan:
    fields = read(_without_macro(line))
    minutes = " ".join(_without_macro(line).split()[-5:])
    try:
        walker = CronSim(minutes, _ANY_DAY)
    except CronSimError as error:
        raise CronError(_never(minutes) if "day-of-month" in str(error) else str(error)) from None
    # Days of the month fall on the same weekdays again after 28 years; cronsim gives up after 50.
    if next(copy.copy(walker), None) is None:
        raise CronError(_never(minutes))
    return Plan(line, None, fields, minutes, walker)


def _without_macro(line: str) -> str:
    if not line.startswith("@"):
        return line
    if line.lower() in MACROS:
        return MACROS[line.lower()]
    near = difflib.get_close_matches(line.lower(), [*MACROS, "@every 60"], n=1)
    raise CronError(f"did you mean {near[0]!r}?" if near else f"there is {', '.join(MACROS)} and '@every 60'")


def _never(minutes: str) -> str:
    day, month, weekday = minutes.split()[2:]
    return f"it can never run, no date has day of the month {day}, month {month} and weekday {weekday}"
