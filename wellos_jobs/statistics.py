"""Counts a minute, queue and job name, with histograms of wait and run times: what charts read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connections

from .models import JobStatistic
from .states import EventName

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds in seconds of the histogram's buckets; one more bucket takes what is longer."""

_COUNTED = tuple(event.value for event in EventName if event not in {EventName.PROGRESSED, EventName.REPLAYED})
_SUMS = ("wait_seconds", "run_seconds")
_HISTOGRAMS = ("wait_histogram", "run_histogram")

Key = tuple[datetime, str, str]


@dataclass
class _Counts:
    events: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)


class MinuteCounts:
    """Collects what a batch of events adds to the statistics, then adds it to the rows."""

    def __init__(self) -> None:
        self._counts: dict[Key, _Counts] = {}

    def count(self, event: EventName, queue: str, name: str, at: datetime) -> None:
        """Count one transition."""
        if event.value in _COUNTED:
            events = self._at(queue, name, at).events
            events[event.value] = events.get(event.value, 0) + 1

    def time(self, kind: str, seconds: float, queue: str, name: str, at: datetime) -> None:
        """Note a duration; ``kind`` is ``wait`` or ``run``."""
        counts = self._at(queue, name, at)
        counts.seconds[kind] = counts.seconds.get(kind, 0.0) + seconds
        histogram = counts.histograms.setdefault(kind, [0] * (len(BUCKETS) + 1))
        histogram[bisect_left(BUCKETS, seconds)] += 1

    def save(self, database: str) -> None:
        """Add everything to the rows of a database. The caller's transaction keeps others from doing so too."""
        if not self._counts:
            return
        rows = {(row.minute, row.queue, row.name): row for row in self._stored(database)}
        for key, counts in self._counts.items():
            row = rows.get(key) or JobStatistic(minute=key[0], queue=key[1], name=key[2])
            rows[key] = row
            _add(row, counts)
        target = connections[database].features.supports_update_conflicts_with_target
        JobStatistic.objects.using(database).bulk_create(
            rows.values(),
            update_conflicts=True,
            update_fields=[*_COUNTED, *_SUMS, *_HISTOGRAMS],
            unique_fields=["minute", "queue", "name"] if target else None,
        )

    def _at(self, queue: str, name: str, at: datetime) -> _Counts:
        return self._counts.setdefault((at.replace(second=0, microsecond=0), queue, name), _Counts())

    def _stored(self, database: str) -> Iterable[JobStatistic]:
        minutes = {minute for minute, _, _ in self._counts}
        names = {name for _, _, name in self._counts}
        wanted = JobStatistic.objects.using(database).filter(minute__in=minutes, name__in=names)
        return [row for row in wanted if (row.minute, row.queue, row.name) in self._counts]


def _add(row: JobStatistic, counts: _Counts) -> None:
    for event, number in counts.events.items():
        setattr(row, event, getattr(row, event) + number)
    for kind, seconds in counts.seconds.items():
        setattr(row, f"{kind}_seconds", getattr(row, f"{kind}_seconds") + seconds)
    for kind, histogram in counts.histograms.items():
        stored = getattr(row, f"{kind}_histogram") or [0] * len(histogram)
        setattr(row, f"{kind}_histogram", [old + new for old, new in zip(stored, histogram, strict=True)])
    row.pk = None  # an upsert by the unique key, never by the primary key
