"""IANA time zones, and how their clock changes affect wall times. Pure: only ``zoneinfo``.

There are two kinds of ``datetime`` here. An *instant* is aware and in UTC. A *wall* time is naive:
what a clock in the zone shows. When clocks go forward, some wall times are skipped (a gap); when
they go back, some occur twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, cast
from zoneinfo import ZoneInfo, available_timezones

from ..errors import CronError

_SECOND = timedelta(seconds=1)
_STRIDE = timedelta(days=3)

_OF_THIS_HOST = frozenset({"localtime", "posixrules", "Factory"})
_OTHER_CLOCKS = ("posix/", "right/")


def zone(value: str | ZoneInfo) -> ZoneInfo:
    """Return the time zone of an IANA name such as ``"America/New_York"``.

    Raises:
        CronError: there is no such zone; the message suggests the closest. A ``ZoneInfo`` without
            a key (made from a file) is refused too, because it has no name to store.
    """
    if isinstance(value, ZoneInfo):
        if value.key is None:
            raise CronError(
                f"{value!r} has no key, so it cannot be stored: use ZoneInfo('Area/City')"
            )
        return value
    if not isinstance(value, str):
        raise CronError(
            f"{value!r} is not a time zone: give an IANA name such as 'Europe/Paris', or a ZoneInfo"
        )
    return _named(value)


@lru_cache(maxsize=1024)
def _named(name: str) -> ZoneInfo:
    if name in _OF_THIS_HOST or name.startswith(_OTHER_CLOCKS):
        raise CronError(
            f"{name!r} is not the same zone on every host: use a name such as 'UTC' or "
            "'Europe/Paris'"
        )
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown, an invalid path, or a directory
        raise CronError(f"{name!r} is not a time zone: {_near(name)}") from None


def _near(name: str) -> str:
    known = sorted(available_timezones())
    wanted = "_".join(name.split()).casefold()
    by_tail = [
        key for key in known if key.casefold() == wanted or key.casefold().endswith(f"/{wanted}")
    ]
    by_look = [] if by_tail else difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    for close in by_tail + by_look:
        return f"did you mean {close!r}?"
    return "use an IANA name such as 'Europe/Paris'"


class ClockChange(NamedTuple):
    """One change of a zone's clock."""

    at: datetime
    """The first instant of the new offset."""
    old: timedelta
    new: timedelta

    @property
    def is_gap(self) -> bool:
        """Whether clocks go forward, so that wall times are skipped; else some occur twice."""
        return self.new > self.old

    @property
    def start(self) -> datetime:
        """The first wall time that is skipped, or occurs twice."""
        return _wall(self.at, min(self.old, self.new))

    @property
    def end(self) -> datetime:
        """The first wall time after those that are skipped, or occur twice."""
        return _wall(self.at, max(self.old, self.new))


def to_wall(tz: ZoneInfo, instant: datetime) -> datetime:
    """Return the wall time of an instant; ``fold`` is 1 in the second pass of a repeated hour."""
    return instant.astimezone(tz).replace(tzinfo=None)


def clock_change_at(tz: ZoneInfo, wall: datetime) -> ClockChange | None:
    """Return the clock change that skips or repeats a wall time; None if it occurs once."""
    first, second = _offsets(tz, wall)
    if first == second:
        return None
    return _search(tz, _instant(wall, max(first, second)), _instant(wall, min(first, second)))


def clock_changes(tz: ZoneInfo, after: datetime, until: datetime) -> Iterator[ClockChange]:
    """Yield the clock changes after one instant, up to and with another, in order.

    Looks at one instant every three days: no zone has changed its clock twice within seven since
    1970.
    """
    low, until = after.astimezone(UTC), until.astimezone(UTC)
    old = _offset(tz, low)
    while low < until:
        high = min(low + _STRIDE, until)
        new = _offset(tz, high)
        if new != old:
            yield _search(tz, low, high)
        low, old = high, new


def every_instant(tz: ZoneInfo, wall: datetime) -> tuple[datetime, ...]:
    """Return the instants of a wall time: none in a gap, two in a repeated hour."""
    first, second = _offsets(tz, wall)
    if first == second:
        return (_instant(wall, first),)
    if first < second:
        return ()
    return (_instant(wall, first), _instant(wall, second))


def one_instant(tz: ZoneInfo, wall: datetime) -> datetime:
    """Return one instant for a wall time: the end of its gap, the first pass of a repeat."""
    first, second = _offsets(tz, wall)
    if first < second:
        return _search(tz, _instant(wall, second), _instant(wall, first)).at
    return _instant(wall, first)


def _offsets(tz: ZoneInfo, wall: datetime) -> tuple[timedelta, timedelta]:
    """Return both offsets of a wall time: equal if it occurs once, rising in a gap (PEP 495)."""
    # A ZoneInfo returns None only for None.
    first = cast(timedelta, tz.utcoffset(wall.replace(fold=0)))
    return first, cast(timedelta, tz.utcoffset(wall.replace(fold=1)))


def _instant(wall: datetime, offset: timedelta) -> datetime:
    return (wall - offset).replace(tzinfo=UTC, fold=0)


def _wall(instant: datetime, offset: timedelta) -> datetime:
    return instant.replace(tzinfo=None) + offset


def _search(tz: ZoneInfo, low: datetime, high: datetime) -> ClockChange:
    """Find the clock change after ``low`` and not after ``high``, by bisection."""
    old, new = (_offset(tz, instant) for instant in (low, high))
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if _offset(tz, middle) == old:
            low = middle
        else:
            high = middle
    return ClockChange(high, old, new)


def _offset(tz: ZoneInfo, instant: datetime) -> timedelta:
    return to_wall(tz, instant) - instant.replace(tzinfo=None)
