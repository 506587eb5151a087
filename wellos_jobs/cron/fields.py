"""The fields of a cron line, checked one by one. Pure.

Errors name the field, the value and the fix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import CronError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_NUMBER = re.compile(r"[0-9]{1,9}")
_HOLE = re.compile(r"(?:^|[-,/#])(?:$|[-,/#])")
MAX_LENGTH = 255
"""Characters of a line: longer ones are rejected, as they would take too long to parse."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a field counts: its name in errors, its lowest and highest value, names of values."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        """Return a value of this field.

        Raises:
            CronError: it is not one.
        """
        if text.upper() in self.names:
            return self.names.index(text.upper()) + self.low
        if not _NUMBER.fullmatch(text):
            such_as = f" or a name such as {self.names[0]}" if self.names else ""
            raise CronError(f"{self.name} {text!r} is not a number{such_as}")
        value = int(text)
        if value > self.high:
            fix = ": midnight is 0" if self.name == "hour" and value == 24 else ""
            raise CronError(f"{self.name} {value} is above {self.high}{fix}")
        if value < self.low:
            raise CronError(f"{self.name} {value} is below {self.low}")
        return value

    def ends(self, *, named: bool) -> tuple[str, str]:
        """Return the last and the first value as they are written."""
        if named:
            return self.names[-1], self.names[0]
        return ("6" if self.name == "weekday" else str(self.high)), str(self.low)


SECOND = Unit("second", 0, 59)
MINUTE = Unit("minute", 0, 59)
HOUR = Unit("hour", 0, 23)
DAY = Unit("day of the month", 1, 31)
MONTH = Unit("month", 1, 12, _MONTHS)
WEEKDAY = Unit("weekday", 0, 7, _WEEKDAYS)


class Nth(NamedTuple):
    """The nth such weekday of a month; the last one if ``nth`` is ``LAST``."""

    weekday: int
    nth: int


LAST = -1
LAST_WORKDAY = -2
"""Day of the month ``LW``: the last one that is not a Saturday or a Sunday. ``L`` is ``LAST``."""


@dataclass(frozen=True, slots=True)
class Field:
    """The values one field chooses, in order.

    ``values`` of the day of the month may contain ``LAST`` and ``LAST_WORKDAY``; Sunday is always
    0. ``star``: the text contains a star; ``leads``: it begins with one.
    """

    unit: Unit
    values: tuple[int, ...]
    nths: tuple[Nth, ...]
    star: bool
    leads: bool

    @property
    def is_any(self) -> bool:
        """Whether every value is chosen."""
        wanted = 7 if self.unit is WEEKDAY else self.unit.high - self.unit.low + 1
        return len([value for value in self.values if value >= 0]) == wanted


@dataclass(frozen=True, slots=True)
class Fields:
    """The six fields of a cron line."""

    second: Field
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @property
    def is_fixed(self) -> bool:
        """Whether it names times of day, with no star in minute or hour: each of them runs once."""
        return not (self.minute.star or self.hour.star)

    @property
    def needs_both_days(self) -> bool:
        """Whether day of the month *and* weekday must match; else one is enough.

        The rule of Debian's cron.
        """
        return self.day.leads or self.weekday.leads


def parse_fields(line: str) -> Fields:
    """Parse a cron line of five fields, or of six with the seconds first.

    Raises:
        CronError: it is invalid. The message says only why; the caller adds the line.
    """
    if len(line) > MAX_LENGTH:
        raise CronError(f"it has {len(line)} characters, more than {MAX_LENGTH}")
    parts = line.split()
    if not parts:
        raise CronError("it is empty: write one such as '0 8 * * *', minute hour day month weekday")

    if len(parts) not in (5, 6):
        have = f"it has {len(parts)} {'field' if len(parts) == 1 else 'fields'}"
        raise CronError(
            f"{have}, not 5 (minute hour day month weekday) or 6 (with the seconds first)"
        )

    if len(parts) == 5:
        parts.insert(0, "0")
    units = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY)
    return Fields(*(_field(unit, part) for unit, part in zip(units, parts, strict=True)))


def _field(unit: Unit, text: str) -> Field:
    if _HOLE.search(text):
        raise CronError(f"{unit.name} {text!r} has a missing value")

    values: set[int] = set()
    nths: set[Nth] = set()
    for term in text.split(","):
        nth = _nth(unit, term)
        if nth is not None:
            nths.add(nth)
        else:
            values.update(_values(unit, term))

    if unit is WEEKDAY:
        values = {value % 7 for value in values}

    return Field(
        unit,
        values=tuple(sorted(values)),
        nths=tuple(sorted(nths)),
        star="*" in text,
        leads=text.startswith("*"),
    )


def _nth(unit: Unit, term: str) -> Nth | None:
    """Parse ``MON#2`` (the second Monday) or ``5L`` (the last Friday); None for other terms."""
    if unit is not WEEKDAY:
        return None
    if "#" in term:
        day, _, nth = term.partition("#")
        if nth not in ("1", "2", "3", "4", "5"):
            raise CronError(f"weekday {term!r} is invalid: after # write a number from 1 to 5")
        return Nth(unit.number(day) % 7, int(nth))
    if term.upper().endswith("L"):
        if not _NUMBER.fullmatch(term[:-1]):
            raise CronError(
                f"weekday {term!r} is invalid: for the last Friday of the month write 5L"
            )
        return Nth(unit.number(term[:-1]) % 7, LAST)
    return None


def _values(unit: Unit, term: str) -> list[int]:
    if unit is DAY and term.upper() in ("L", "LW"):
        return [LAST if term.upper() == "L" else LAST_WORKDAY]
    if term == "?":
        raise CronError(f"{unit.name} '?' is not supported: write *")

    base, slash, step_text = term.partition("/")
    low, high = _span(unit, base)
    if not slash:
        return list(range(low, high + 1))
    if low == high:
        high = unit.high
    return list(range(low, high + 1, _step(unit, step_text)))


def _span(unit: Unit, text: str) -> tuple[int, int]:
    if text == "*":
        return unit.low, unit.high
    if "-" not in text:
        value = unit.number(text)
        return value, value

    low_text, _, high_text = text.partition("-")
    low, high = unit.number(low_text), unit.number(high_text)
    if low > high:
        top, bottom = unit.ends(named=low_text.upper() in unit.names)
        above = low_text if low_text.upper() == top else f"{low_text}-{top}"
        below = high_text if high_text.upper() == bottom else f"{bottom}-{high_text}"
        raise CronError(f"{unit.name} {text} runs backwards: write {above},{below}")
    return low, high


def _step(unit: Unit, text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) == 0:
        raise CronError(f"{unit.name} step {text!r} is not a whole number above 0")
    step = int(text)
    if step > unit.high:
        letter = {SECOND: "s", MINUTE: "m", HOUR: "h", DAY: "d"}.get(unit)
        fix = f": for an interval write '@every {step}{letter}'" if letter else ""
        raise CronError(f"{unit.name} step {step} is above {unit.high}{fix}")
    return step
