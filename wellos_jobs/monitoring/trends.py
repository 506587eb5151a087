"""Throughput, failure rate and latency over a time window, from the statistics. Read-only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple, TypeVar

from django.db import connections
from django.db.models import QuerySet, Sum, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from ..models.statistic import DAY, HOUR, MINUTE, Span, percentile, sum_histograms

SMALL_SAMPLE = 100
"""With fewer runs than this, a percentile is not meaningful."""


@dataclass(frozen=True)
class Window:
    """A time window up to now, with the span of its counts and that of its durations."""

    counts: Span
    number: int
    times: Span

    def begin(self, now: datetime) -> datetime:
        """Return the beginning of its first span; the last span is the current one."""
        return self.counts.begin(now) - self.counts.length * (self.number - 1)

    def begins(self, span: Span, now: datetime) -> list[datetime]:
        """Return the beginning of each of its spans."""
        first, last = span.begin(self.begin(now)), span.begin(now)
        return [
            first + span.length * place for place in range(round((last - first) / span.length) + 1)
        ]


WINDOWS: Mapping[str, Window] = {
    "1h": Window(MINUTE, 60, MINUTE),
    "24h": Window(HOUR, 24, HOUR),
    "7d": Window(HOUR, 7 * 24, DAY),
    "30d": Window(DAY, 30, DAY),
    "90d": Window(DAY, 90, DAY),
}


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of durations in seconds, as upper bounds of the histogram's buckets.

    None: there are no runs, or it is above the last bound.
    """

    runs: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    @property
    def is_small(self) -> bool:
        """Whether the sample is too small to be meaningful."""
        return self.runs < SMALL_SAMPLE

    @classmethod
    def of(cls, histograms: Iterable[Sequence[int]]) -> Percentiles:
        total = sum_histograms(histograms)
        if not any(total):
            return cls()
        return cls(sum(total), *(percentile(total, share) for share in (0.5, 0.95, 0.99)))


@dataclass(frozen=True)
class JobLine:
    """The jobs of one name in one queue."""

    queue: str
    name: str
    completed: int
    failed: int
    wait: Percentiles
    run: Percentiles

    @property
    def failure_rate(self) -> float | None:
        """The share of ended jobs that failed; None if none ended."""
        return share(self.failed, self.completed + self.failed)


@dataclass(frozen=True)
class Trends:
    """One window: ended jobs per span of ``begins``, durations per span of ``time_begins``."""

    window: Window
    begins: Sequence[datetime]
    completed: Sequence[int]
    failed: Sequence[int]
    time_begins: Sequence[datetime]
    waits: Sequence[Percentiles]
    runs: Sequence[Percentiles]
    lines: Sequence[JobLine] = field(default_factory=list)
    total: JobLine | None = None


class _Row(NamedTuple):
    """One row of counts."""

    at: datetime
    queue: str
    name: str
    completed: int
    failed: int
    wait: Sequence[int]
    run: Sequence[int]


_Key = TypeVar("_Key")


def share(part: int, whole: int) -> float | None:
    """Return a part divided by the whole; None if the whole is 0."""
    return part / whole if whole else None


def trends(name: str, queue: str = "", job: str = "", now: datetime | None = None) -> Trends:
    """Return the trends of one of ``WINDOWS``, for one queue or job name if given. Two queries.

    Raises:
        KeyError: there is no such window.
    """
    window = WINDOWS[name]
    moment = now or timezone.now()

    begins = window.begins(window.counts, moment)
    ended = _ended(_rows(window.counts, begins[0], queue, job))

    time_begins = window.begins(window.times, moment)
    rows = _durations(_rows(window.times, time_begins[0], queue, job))
    by_time = _grouped(rows, lambda row: row.at)
    by_job = _grouped(rows, lambda row: (row.queue, row.name))
    percentiles = [_percentiles(by_time.get(at, [])) for at in time_begins]

    return Trends(
        window=window,
        begins=begins,
        completed=[ended.get(at, (0, 0))[0] for at in begins],
        failed=[ended.get(at, (0, 0))[1] for at in begins],
        time_begins=time_begins,
        waits=[wait for wait, _run in percentiles],
        runs=[run for _wait, run in percentiles],
        lines=[_line(found, *key) for key, found in by_job.items()],
        total=_line(rows, queue, job),
    )


def _rows(span: Span, since: datetime, queue: str, job: str) -> QuerySet[Any]:
    rows = span.model.objects.filter(begins_at__gte=since).order_by()
    rows = rows.filter(queue=queue) if queue else rows
    return rows.filter(name=job) if job else rows


def _ended(rows: QuerySet[Any]) -> dict[datetime, tuple[int, int]]:
    found = rows.values_list("begins_at").annotate(Sum("completed"), Sum("failed"))
    return {at: (completed, failed) for at, completed, failed in found}


def _durations(rows: QuerySet[Any]) -> list[_Row]:
    """Return the rows with their histograms.

    There may be tens of thousands, so times and JSON are read as text: each distinct time is parsed
    once, and each column of histograms in one go.
    """
    texts = {
        f"{name}_text": Cast(name, TextField())
        for name in ("begins_at", "wait_histogram", "run_histogram")
    }
    found = list(rows.annotate(**texts).values_list(*texts, "queue", "name", "completed", "failed"))

    zone = connections[rows.db].timezone or UTC
    moments = {text: _moment(text, zone) for text in {row[0] for row in found}}
    waits, runs = (json.loads(f"[{','.join(row[place] for row in found)}]") for place in (1, 2))
    return [
        _Row(moments[row[0]], row[3], row[4], row[5], row[6], wait, run)
        for row, wait, run in zip(found, waits, runs, strict=True)
    ]


def _moment(text: str, zone: tzinfo) -> datetime:
    """Parse a time as text of the database."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=zone)


def _grouped(rows: Sequence[_Row], key: Callable[[_Row], _Key]) -> dict[_Key, list[_Row]]:
    found: dict[_Key, list[_Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def _percentiles(rows: Sequence[_Row]) -> tuple[Percentiles, Percentiles]:
    return Percentiles.of(row.wait for row in rows), Percentiles.of(row.run for row in rows)


def _line(rows: Sequence[_Row], queue: str, name: str) -> JobLine:
    completed, failed = sum(row.completed for row in rows), sum(row.failed for row in rows)
    return JobLine(queue, name, completed, failed, *_percentiles(rows))
