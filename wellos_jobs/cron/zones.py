"""IANA time zones, and what their clock changes do to a wall time. Pure: only ``zoneinfo``.

Two kinds of ``datetime`` occur here. An *instant* is aware and in UTC. A *wall* time is naive: what
a clock on the wall of the zone shows. Where clocks are put forward some wall times never come (a
gap); where they are put back some come twice.
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
        CronError: there is no such zone; the text names the near miss. A ``ZoneInfo`` without a key
            (made from a file)
            is refused too, because its name could not be stored.
    """
    if isinstance(value, ZoneInfo):
        if value.key is None:
            raise CronError(
                f"{value!r} has no name that could be stored: use ZoneInfo('Area/City')"
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
            f"{name!r} means something else on each host: use a name such as 'UTC' or 'Europe/Paris'"
        )
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; no relative path; the name of a directory
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


class Turn(NamedTuple):
    """One change of a zone's clock."""

    at: datetime
    """The first instant of the new offset."""
    old: timedelta
    new: timedelta

    @property
    def is_gap(self) -> bool:
        """Whether clocks are put forward, so that wall times fall out; else some come twice."""
        return self.new > self.old

    @property
    def start(self) -> datetime:
        """The first wall time that falls out, or comes twice."""
        return _wall(self.at, min(self.old, self.new))

    @property
    def end(self) -> datetime:
        """The first wall time after those that fall out, or come twice."""
        return _wall(self.at, max(self.old, self.new))


def to_wall(place: ZoneInfo, instant: datetime) -> datetime:
    """Return what the clock shows at an instant; ``fold`` is 1 in the second pass of a repeated hour."""
    return instant.astimezone(place).replace(tzinfo=None)


def turn_at(place: ZoneInfo, wall: datetime) -> Turn | None:
    """Return the clock change because of which this wall time never comes or comes twice; None when it comes once."""
    first, second = _offsets(place, wall)
    if first == second:
        return None
    return _search(place, _instant(wall, max(first, second)), _instant(wall, min(first, second)))


def turns(place: ZoneInfo, after: datetime, until: datetime) -> Iterator[Turn]:
    """Yield the clock changes after one instant, up to and with another, in order.

    It looks once in three days: since 1970 no zone has changed its clock twice within seven.
    """
    low, until = after.astimezone(UTC), until.astimezone(UTC)
    old = _offset(place, low)
    while low < until:
        high = min(low + _STRIDE, until)
        new = _offset(place, high)
        if new != old:
            yield _search(place, low, high)
        low, old = high, new


def every_instant(place: ZoneInfo, wall: datetime) -> tuple[datetime, ...]:
    """Return the instants at which the clock shows this wall time: none in a gap, two in a repeated hour."""
    first, second = _offsets(place, wall)
    if first == second:
        return (_instant(wall, first),)
    if first < second:
        return ()
    return (_instant(wall, first), _instant(wall, second))


def one_instant(place: ZoneInfo, wall: datetime) -> datetime:
    """Return the one instant that stands for a wall time: the end of its gap, the first pass of a repeated hour."""
    first, second = _offsets(place, wall)
    if first < second:
        return _search(place, _instant(wall, second), _instant(wall, first)).at
    return _instant(wall, first)


def _offsets(place: ZoneInfo, wall: datetime) -> tuple[timedelta, timedelta]:
    """Both offsets that a wall time may be read with: equal when it comes once, rising in a gap (PEP 495)."""
    # A ZoneInfo answers None only when it is asked about None.
    first = cast(timedelta, place.utcoffset(wall.replace(fold=0)))
    return first, cast(timedelta, place.utcoffset(wall.replace(fold=1)))


def _instant(wall: datetime, offset: timedelta) -> datetime:
    return (wall - offset).replace(tzinfo=UTC, fold=0)


def _wall(instant: datetime, offset: timedelta) -> datetime:
    return instant.replace(tzinfo=None) + offset


def _search(place: ZoneInfo, low: datetime, high: datetime) -> Turn:
    """Find, by halving, the clock change after ``low`` and not after ``high``."""
    old, new = (_offset(place, instant) for instant in (low, high))
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if _offset(place, middle) == old:
            low = middle
        else:
            high = middle
    return Turn(high, old, new)


def _offset(place: ZoneInfo, instant: datetime) -> timedelta:
    return to_wall(place, instant) - instant.replace(tzinfo=None)
