"""When a schedule runs, and which of its overdue runs are made.

Pure: no clock, no Redis, no database. A run less than a minute late, as when another scheduler
takes over, is always made. An older one is *missed*, and the catch-up policy decides about it.

All comparisons are in UTC: Python compares two datetimes of one zone by their wall time, which is
wrong in a repeated hour.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from ..states import CatchUp
from .expressions import Interval
from .runs import iterate, next_runs, parse, previous_run

MISSED_AFTER: Final = timedelta(seconds=60)
"""A run that is later than this is missed."""

MAX_COUNTED: Final = 1_000
"""Up to this many missed runs of a cron line are counted; beyond, the number is a minimum."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Due:
    """What to do at one moment about a schedule that is due."""

    runs: tuple[datetime, ...]
    """The due times for which a job is made, oldest first."""
    skipped: int
    """The number of due times without a job."""
    next_run: datetime | None
    """When the schedule is due next; None if never again. All times are in UTC."""


@dataclass(frozen=True, slots=True)
class Timing:
    """A line in a zone, from start to end (both inclusive). Intervals count from the start."""

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
        """A short text that changes with any part of the timing."""
        bounds = ("" if at is None else at.isoformat() for at in (self.starts_at, self.ends_at))
        text = "\x1f".join([self.line, self.zone, *bounds])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def after(self, moment: datetime, count: int = 1) -> list[datetime]:
        """Return the next runs after a moment, in the zone; fewer if there are no more.

        Raises:
            CronError: the line or the zone is invalid.
        """
        if self.starts_at is not None and _utc(moment) < self.starts_at:
            moment = self.starts_at - _MICROSECOND
        runs = next_runs(self.line, self.zone, moment, count, anchor=self.starts_at)
        return [run for run in runs if not self._is_over(run)]

    def due(self, first: datetime, now: datetime, catch_up: CatchUp, most: int) -> Due:
        """Decide what to do at ``now`` about a schedule that has been due since ``first``.

        At most ``most`` runs, whatever the policy: the latest ones.

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
    """Return the latest due times up to now, the number of all of them, and the one after now.

    At most ``most`` due times are returned.
    """
    latest, count = deque([first], maxlen=most), 1
    for run in map(_utc, iterate(timing.line, timing.zone, first, anchor=timing.starts_at)):
        if run > now or timing._is_over(run):
            return list(latest), count, None if timing._is_over(run) else run
        latest.append(run)
        count += 1
        if count >= max(MAX_COUNTED, most):
            return _jump(timing, first, now, most, count)
    return list(latest), count, None


def _jump(
    timing: Timing, first: datetime, now: datetime, most: int, count: int
) -> tuple[list[datetime], int, datetime | None]:
    """Do the same backwards from now, for a schedule with too many due times to go through."""
    before = (now if timing.ends_at is None else min(now, timing.ends_at)) + _MICROSECOND
    latest: deque[datetime] = deque()
    while len(latest) < most:
        run = previous_run(timing.line, timing.zone, before, anchor=timing.starts_at)
        if run is None or _utc(run) <= first:
            break
        before = _utc(run)
        latest.appendleft(before)
    expression = parse(timing.line)
    if isinstance(expression, Interval):
        count = (latest[-1] - first) // expression.period + 1
    later = timing.after(now)
    return list(latest), count, _utc(later[0]) if later else None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
