"""A clock for tests: it stands still until it is moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.utils import timezone


class MovedClock:
    """What ``timezone.now()`` says within ``moved_clock``."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def move(self, by: float | timedelta = 0, **units: float) -> datetime:
        """Move it by seconds or a timedelta, or by units such as ``hours=2``; return its time."""
        return self.move_to(self.now + _length(by, units))

    def move_to(self, moment: datetime) -> datetime:
        """Set it to an aware datetime, and return that.

        Raises:
            ValueError: the time is naive.
        """
        self.now = _aware(moment)
        return self.now

    def read(self) -> datetime:
        """Return its time in UTC, as ``timezone.now()`` does."""
        return self.now.astimezone(timezone.get_fixed_timezone(0))


class _Running:
    clock: MovedClock | None = None


def moving_clock() -> MovedClock | None:
    """Return the clock of the innermost ``moved_clock``; None outside of it."""
    return _Running.clock


@contextmanager
def moved_clock(
    by: float | timedelta = 0, *, to: datetime | None = None, **units: float
) -> Iterator[MovedClock]:
    """Let ``timezone.now()`` stand still at another time, for jobs, schedules and your own code.

    ``by`` is seconds or a timedelta from now, ``to`` an aware datetime, ``units`` are those of a
    timedelta: ``moved_clock(hours=2)``. The clock that it gives can be moved further. Code that
    asks ``datetime.now()`` or ``time.time()`` sees the real time: for that, put time-machine or
    freezegun around it, which this app follows too.

    Raises:
        ValueError: ``to`` is naive.
    """
    told_before, clock_before = timezone.now, _Running.clock
    clock = MovedClock((timezone.now() if to is None else _aware(to)) + _length(by, units))
    timezone.now, _Running.clock = clock.read, clock
    try:
        yield clock
    finally:
        timezone.now, _Running.clock = told_before, clock_before


def moment(given: datetime | timedelta | float) -> datetime:
    """Return an aware datetime as it is, and a length (seconds or timedelta) as that from now.

    Raises:
        ValueError: the time is naive.
    """
    if isinstance(given, datetime):
        return _aware(given)
    return timezone.now() + _length(given, {})


def _length(by: float | timedelta, units: dict[str, float]) -> timedelta:
    length = by if isinstance(by, timedelta) else timedelta(seconds=by)
    return length + timedelta(**units)


def _aware(given: datetime) -> datetime:
    if timezone.is_naive(given):
        raise ValueError(f"{given!r} is a naive datetime: give it a time zone")
    return given
