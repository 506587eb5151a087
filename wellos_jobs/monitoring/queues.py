"""Queue cards: the current state of each queue, and its counts of the last day. Read-only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from .. import broker, conf, status
from ..broker import keys
from ..models import HourStatistic, JobStatistic

MINUTES = 60
"""How far back the throughput of a queue goes, one value per minute."""
DAY = timedelta(days=1)


@dataclass(frozen=True)
class QueueCard:
    """One queue. Current values are None if Redis is unavailable; ``problem`` then says why.

    ``oldest_wait`` is in seconds, and None when nothing waits. ``completed`` and ``failed`` count
    runs of the last 24 hours, ``throughput`` completed runs minute by minute.
    """

    name: str
    waiting: int | None = None
    active: int | None = None
    delayed: int | None = None
    blocked: int | None = None
    oldest_wait: float | None = None
    paused: bool = False
    workers: int | None = None
    has_backlog: bool = False
    completed: int = 0
    failed: int = 0
    throughput: Sequence[int] = field(default_factory=tuple)
    problem: str = ""


def cards(*, with_throughput: bool = True) -> list[QueueCard]:
    """Return every queue in the order of ``RQ_QUEUES``.

    For each Redis it takes two round trips and one query. One query more reads the last day, and
    one the throughput, which is thousands of rows for many queues.
    """
    now = timezone.now()
    live: dict[str, dict[str, Any]] = {}
    for source, names in broker.sources().items():
        live.update(_live(source, names))

    last_day = _last_day(now)
    throughput = _throughput(now) if with_throughput else {}
    return [
        QueueCard(
            name=name,
            completed=last_day.get(name, (0, 0))[0],
            failed=last_day.get(name, (0, 0))[1],
            throughput=throughput.get(name, [0] * MINUTES),
            **live[name],
        )
        for name in conf.queues()
    ]


def _live(source: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the current values of the queues on one Redis, as arguments of QueueCard."""
    try:
        counts = status.queue_counts(names)
        with broker.source_client(source, "call").pipeline(transaction=False) as pipeline:
            pipeline.hkeys(keys.BACKLOG)
            for name in names:
                pipeline.scard(keys.workers_of(name))
            backlog, *workers = pipeline.execute()
    except broker.Error as error:
        return {name: {"problem": str(error)} for name in names}

    with_backlog = {broker.text(name) for name in backlog}
    workers_of = dict(zip(names, workers, strict=True))
    return {
        name: {
            **counts[name],
            "workers": workers_of[name],
            "has_backlog": name in with_backlog,
        }
        for name in names
    }


def _last_day(now: datetime) -> dict[str, tuple[int, int]]:
    """Return the completed and failed runs of the last 24 hours, to the full hour, by queue."""
    rows = HourStatistic.objects.filter(begins_at__gt=now - DAY).order_by()
    sums: Iterable[tuple[str, int, int]] = rows.values_list("queue").annotate(
        Sum("completed"), Sum("failed")
    )
    return {queue: (completed, failed) for queue, completed, failed in sums}


def _throughput(now: datetime) -> dict[str, list[int]]:
    """Return the completed runs of each of the last minutes, by queue, oldest first."""
    last = now.replace(second=0, microsecond=0)
    first = last - timedelta(minutes=MINUTES - 1)
    rows: Iterable[tuple[str, datetime, int]] = (
        JobStatistic.objects.filter(begins_at__gte=first, begins_at__lte=last)
        .order_by()
        .values_list("queue", "begins_at")
        .annotate(completed_sum=Sum("completed"))
    )

    places = {first + timedelta(minutes=place): place for place in range(MINUTES)}
    found: dict[str, list[int]] = {}
    for queue, minute, completed in rows:
        found.setdefault(queue, [0] * MINUTES)[places[minute]] += completed
    return found
