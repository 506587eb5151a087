"""When a schedule runs, and which of the runs it is late for are made. Pure: no clock, no Redis, no database.

A run that comes less than a minute late, as when one clock takes over from another, is late and no
more: it is always made. An older one is *missed*, and the catch-up policy says what becomes of it.

All comparing is done in UTC: Python compares two datetimes of one zone by the wall, which is wrong
in a repeated hour.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from ..states import CatchUp
from . import runs as cron
from .expressions import Interval

MISSED_AFTER: Final = timedelta(seconds=60)

MOST_COUNTED: Final = 1_000
"""From here on the missed runs of a cron line are no longer counted one by one: the number is then "at least"."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done at one moment about a schedule that is due."""

    runs: tuple[datetime, ...]
    """The due times for which a job is made, oldest first."""
    passed_over: int
    """How many due times get no job of their own."""
    next_run: datetime | None
    """When the schedule is due next; None when it never is again. All times are in UTC."""


@dataclass(frozen=True, slots=True)
class Timing:
    """A line in a zone, between a start and an end (both inclusive). Intervals count from the start."""

    line: str
    zone: str
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("starts_at", "ends_at"):
            if (moment := getattr(self, name)) is not None:
                object.__setattr__(self, name, _utc(moment))

    @property
    def digest(self) -> str:
        """A short text that changes whenever any part of the timing does."""
        bounds = ("" if at is None else at.isoformat() for at in (self.starts_at, self.ends_at))
        return hashlib.sha256("\x1f".join([self.line, self.zone, *bounds]).encode()).hexdigest()[
            :32
        ]

    def after(self, moment: datetime, count: int = 1) -> list[datetime]:
        """Return the next runs after a moment, in the zone; fewer when there are no more.

        Raises:
            CronError: the line or the zone does not exist.
        """
        if self.starts_at is not None and _utc(moment) < self.starts_at:
            moment = self.starts_at - _MICROSECOND
        runs = cron.next_runs(self.line, self.zone, moment, count, anchor=self.starts_at)
        return [run for run in runs if not self._is_over(run)]

    def due(self, first: datetime, now: datetime, catch_up: CatchUp, most: int) -> Due:
        """Say what to do at ``now`` about a schedule that has been due since ``first``.

        Never more than ``most`` runs, whatever the policy: the latest ones.

        Raises: as ``after``.
        """
        return _due(self, _utc(first), _utc(now), catch_up, max(most, 1))

    def _is_over(self, run: datetime) -> bool:
        return self.ends_at is not None and _utc(run) > self.ends_at


@lru_cache(maxsize=1024)  # thousands of schedules share a line, a zone and a due time
def _due(timing: Timing, first: datetime, now: datetime, catch_up: CatchUp, most: int) -> Due:
    latest, count, next_run = _walk(timing, first, now, most)
    if catch_up == CatchUp.ALL:
        runs = latest
    else:
        runs = [run for run in latest if now - run < MISSED_AFTER]
        if not runs and catch_up == CatchUp.ONCE:
            runs = latest[-1:]
    return Due(tuple(runs), count - len(runs), next_run)


def _walk(
    timing: Timing, first: datetime, now: datetime, most: int
) -> tuple[list[datetime], int, datetime | None]:
    """Return the latest due times up to now, at most ``most``, how many there are in all, and the one after now."""
    latest, count = deque([first], maxlen=most), 1
    for run in map(_utc, cron.iterate(timing.line, timing.zone, first, anchor=timing.starts_at)):
        if run > now or timing._is_over(run):
            return list(latest), count, None if timing._is_over(run) else run
        latest.append(run)
        count += 1
        if count >= max(MOST_COUNTED, most):
            return _jump(timing, first, now, most, count)
    return list(latest), count, None


def _jump(
    timing: Timing, first: datetime, now: datetime, most: int, count: int
) -> tuple[list[datetime], int, datetime | None]:
    """The same for a schedule that was away for so long that walking would take too long: walk back from now."""
    before = (now if timing.ends_at is None else min(now, timing.ends_at)) + _MICROSECOND
    latest: deque[datetime] = deque()
    while len(latest) < most:
        run = cron.previous_run(timing.line, timing.zone, before, anchor=timing.starts_at)
        if run is None or _utc(run) <= first:
            break
        before = _utc(run)
        latest.appendleft(before)
    plan = cron.parse(timing.line)
    if isinstance(plan, Interval):
        count = (latest[-1] - first) // plan.period + 1
    later = timing.after(now)
    return list(latest), count, _utc(later[0]) if later else None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
