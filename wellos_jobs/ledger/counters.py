"""Add events to the statistics: counts and time histograms by period, queue and job name."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connections

from ..models.statistic import BUCKETS, DAY, HOUR, MINUTE, Span, StatisticRow
from ..states import EventName

_COUNTED = tuple(
    event.value for event in EventName if event not in {EventName.PROGRESSED, EventName.REPLAYED}
)
_SUMS = ("wait_seconds", "run_seconds")
_HISTOGRAMS = ("wait_histogram", "run_histogram")

Key = tuple[datetime, str, str]


@dataclass
class _Counts:
    events: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)

    def add(self, other: _Counts) -> None:
        """Add the counts of a shorter period."""
        for event, number in other.events.items():
            self.events[event] = self.events.get(event, 0) + number
        for kind, seconds in other.seconds.items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
        for kind, histogram in other.histograms.items():
            old = self.histograms.get(kind) or [0] * len(histogram)
            self.histograms[kind] = [one + more for one, more in zip(old, histogram, strict=True)]


class MinuteCounts:
    """Counts a batch of events by minute, then adds the counts to the rows."""

    def __init__(self) -> None:
        self._counts: dict[Key, _Counts] = {}

    def count(self, event: EventName, queue: str, name: str, at: datetime) -> None:
        """Count one transition."""
        if event.value in _COUNTED:
            events = self._at(queue, name, at).events
            events[event.value] = events.get(event.value, 0) + 1

    def time(self, kind: str, seconds: float, queue: str, name: str, at: datetime) -> None:
        """Record a duration; ``kind`` is ``wait`` or ``run``."""
        counts = self._at(queue, name, at)
        counts.seconds[kind] = counts.seconds.get(kind, 0.0) + seconds
        histogram = counts.histograms.setdefault(kind, [0] * (len(BUCKETS) + 1))
        histogram[bisect_left(BUCKETS, seconds)] += 1

    def save(self, database: str) -> None:
        """Add all counts to the rows of a database, by minute, hour and day.

        The caller's transaction excludes concurrent ledgers.
        """
        if self._counts:
            for span in (MINUTE, HOUR, DAY):
                _save(span, self._in_spans(span), database)

    def _in_spans(self, span: Span) -> dict[Key, _Counts]:
        found: dict[Key, _Counts] = {}
        for (minute, queue, name), counts in self._counts.items():
            found.setdefault((span.begin(minute), queue, name), _Counts()).add(counts)
        return found

    def _at(self, queue: str, name: str, at: datetime) -> _Counts:
        return self._counts.setdefault(
            (at.replace(second=0, microsecond=0), queue, name), _Counts()
        )


def _save(span: Span, added: dict[Key, _Counts], database: str) -> None:
    stored = _stored(span, added, database)
    rows = {(row.begins_at, row.queue, row.name): row for row in stored}

    for key, counts in added.items():
        begin, queue, name = key
        row = rows.get(key) or span.model(begins_at=begin, queue=queue, name=name)
        rows[key] = row
        _add(row, counts)

    target = connections[database].features.supports_update_conflicts_with_target
    span.model.objects.using(database).bulk_create(
        rows.values(),
        update_conflicts=True,
        update_fields=[*_COUNTED, *_SUMS, *_HISTOGRAMS],
        unique_fields=["begins_at", "queue", "name"] if target else None,
    )


def _stored(span: Span, added: Collection[Key], database: str) -> Iterable[StatisticRow]:
    begins = {begin for begin, _, _ in added}
    names = {name for _, _, name in added}
    rows = span.model.objects.using(database)
    wanted = rows.filter(begins_at__in=begins, name__in=names)
    return [row for row in wanted if (row.begins_at, row.queue, row.name) in added]


def _add(row: StatisticRow, counts: _Counts) -> None:
    for event, number in counts.events.items():
        setattr(row, event, getattr(row, event) + number)
    for kind, seconds in counts.seconds.items():
        setattr(row, f"{kind}_seconds", getattr(row, f"{kind}_seconds") + seconds)
    for kind, histogram in counts.histograms.items():
        stored = getattr(row, f"{kind}_histogram") or [0] * len(histogram)
        total = [old + new for old, new in zip(stored, histogram, strict=True)]
        setattr(row, f"{kind}_histogram", total)
    row.pk = None  # upsert by the unique key, never by the primary key
