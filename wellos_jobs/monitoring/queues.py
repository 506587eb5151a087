"""How all queues fare at a glance: what stands in Redis now, and what the statistics tell of the last day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from .. import broker, conf
from ..broker import keys, queues
from ..broker.queues import Counts
from ..models import HourStatistic, JobStatistic

MINUTES = 60
"""How far back the throughput of a queue goes, a value a minute."""
DAY = timedelta(days=1)


@dataclass(frozen=True)
class QueueCard:
    """One queue. What Redis knows is None when it cannot be asked; ``problem`` then says why.

    ``oldest_wait`` is in seconds, and None too when nothing waits. ``completed`` and ``failed``
    count runs of the last 24 hours, ``throughput`` completed runs minute by minute.
    """

    name: str
    waiting: int | None = None
    active: int | None = None
    delayed: int | None = None
    blocked: int | None = None
    oldest_wait: float | None = None
    is_paused: bool = False
    workers: int | None = None
    has_backlog: bool = False
    completed: int = 0
    failed: int = 0
    throughput: Sequence[int] = field(default_factory=tuple)
    problem: str = ""


def cards(*, with_throughput: bool = True) -> list[QueueCard]:
    """Return every queue in the order of ``RQ_QUEUES``: two queries, and two round trips for each Redis.

    Without the throughput, which of many queues is thousands of rows, it is one query.
    """
    moment = timezone.now()
    live: dict[str, dict[str, Any]] = {}
    for source, names in broker.sources().items():
        live.update(_live(source, names))
    days = _day(moment)
    flows = _throughput(moment) if with_throughput else {}
    return [
        QueueCard(
            name=name,
            completed=days.get(name, (0, 0))[0],
            failed=days.get(name, (0, 0))[1],
            throughput=flows.get(name, [0] * MINUTES),
            **live[name],
        )
        for name in conf.queues()
    ]


def _live(source: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    try:
        counts = queues.all_counts(names)
        with broker.source_client(source, "call").pipeline(transaction=False) as pipeline:
            pipeline.hkeys(keys.BACKLOG)
            for name in names:
                pipeline.scard(keys.workers_of(name))
            backlog, *workers = pipeline.execute()
    except broker.Error as error:
        return {name: {"problem": str(error)} for name in names}
    built_up = {broker.text(name) for name in backlog}
    served = dict(zip(names, workers, strict=True))
    return {
        name: {**_standing(counts[name]), "workers": served[name], "has_backlog": name in built_up}
        for name in names
    }


def _standing(now: Counts) -> dict[str, Any]:
    shown = {
        name: getattr(now, name)
        for name in ("waiting", "active", "delayed", "blocked", "oldest_wait")
    }
    return shown | {"is_paused": now.paused}


def _day(moment: datetime) -> dict[str, tuple[int, int]]:
    """Return how many runs completed and failed in the last 24 hours, to the full hour, by queue."""
    rows = HourStatistic.objects.filter(begins_at__gt=moment - DAY).order_by()
    sums: Iterable[tuple[str, int, int]] = rows.values_list("queue").annotate(
        Sum("completed"), Sum("failed")
    )
    return {queue: (completed, failed) for queue, completed, failed in sums}


def _throughput(moment: datetime) -> dict[str, list[int]]:
    """Return the completed runs of each of the last minutes, by queue, oldest first."""
    last = moment.replace(second=0, microsecond=0)
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
