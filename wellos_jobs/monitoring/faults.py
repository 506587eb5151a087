"""Triage: dead letters grouped by the fault that made them, for people who decide what becomes of them. Reads only."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

from django.db.models import Count, Max, Min, Q, QuerySet
from django.utils import timezone

from ..models import AuditEntry, DeadLetter
from ..states import AuditAction, DeadLetterStatus

DAYS = 14
"""How many days a group's sparkline shows; the last one is today."""
WINDOWS: dict[str, timedelta] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
ORDERS = {"count": ("-number", "-last"), "last": ("-last",), "first": ("first",)}


@dataclass(frozen=True)
class Choice:
    """Which letters are looked at; '' leaves a column alone."""

    status: str = DeadLetterStatus.OPEN.value
    queue: str = ""
    name: str = ""
    organization: str = ""
    window: str = ""

    def of(self, letters: QuerySet[DeadLetter]) -> QuerySet[DeadLetter]:
        """Leave of a query what was chosen."""
        exact = {
            "status": self.status,
            "queue": self.queue,
            "name": self.name,
            "organization_id": self.organization,
        }
        chosen = letters.filter(**{column: value for column, value in exact.items() if value})
        if self.window in WINDOWS:
            chosen = chosen.filter(created_at__gte=timezone.now() - WINDOWS[self.window])
        return chosen


@dataclass(frozen=True)
class Group:
    """The letters of one fault. Job name, error and message are those of the last one."""

    fingerprint: str
    number: int
    first: datetime
    last: datetime
    organizations: int
    name: str
    queue: str
    error_class: str
    message: str
    days: Sequence[int]


def groups(
    letters: QuerySet[DeadLetter], order: str = "count", start: int = 0, most: int = 25
) -> list[Group]:
    """Return the groups of the letters, largest first, or by ``order``. Three queries, whatever there is."""
    found = _counted(letters, order, start, most)
    if not found:
        return []
    mine = letters.filter(fingerprint__in=[row["fingerprint"] for row in found]).order_by()
    samples, more = _samples(mine, found), _details(mine)
    return [
        _group(row, samples.get(row["fingerprint"]), more.get(row["fingerprint"], {}))
        for row in found
    ]


def group(letters: QuerySet[DeadLetter], fingerprint: str) -> Group | None:
    """Return one group, None if no letter is of it. Three queries."""
    return next(iter(groups(letters.filter(fingerprint=fingerprint), most=1)), None)


def canary(fingerprint: str) -> AuditEntry | None:
    """Return the entry of the last job of a fault that was sent ahead of the others. One query."""
    sent = AuditEntry.objects.filter(
        target_type="fault", target_id=fingerprint, action=AuditAction.SENT_CANARY
    )
    return sent.order_by("-at", "-pk").first()


def _counted(
    letters: QuerySet[DeadLetter], order: str, start: int, most: int
) -> list[dict[str, Any]]:
    counted = letters.order_by().values("fingerprint")
    summed = counted.annotate(
        number=Count("fingerprint"), first=Min("created_at"), last=Max("created_at")
    )
    rows: Any = summed.order_by(*ORDERS.get(order, ORDERS["count"]), "fingerprint")
    return list(rows[start : start + most])


def _samples(mine: QuerySet[DeadLetter], found: Sequence[dict[str, Any]]) -> dict[str, DeadLetter]:
    """Return the last letter of each group, found through the index: one place in it for each."""
    last = reduce(
        operator.or_, (Q(fingerprint=row["fingerprint"], created_at=row["last"]) for row in found)
    )
    columns = ("fingerprint", "name", "queue", "error_class", "message")
    return {letter.fingerprint: letter for letter in mine.filter(last).only(*columns)}


def _details(mine: QuerySet[DeadLetter]) -> dict[str, dict[str, int]]:
    """Count organizations, and letters by day: by comparing with the days' bounds, as few databases know time zones."""
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    bounds = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    counts: dict[str, Any] = {
        f"day{at}": Count(
            "fingerprint", filter=Q(created_at__gte=bound) & _before(bounds[at + 1 :])
        )
        for at, bound in enumerate(bounds)
    }
    counts["organizations"] = Count("organization_id", distinct=True, filter=~Q(organization_id=""))
    rows: Any = mine.values("fingerprint").annotate(**counts)
    return {row["fingerprint"]: row for row in rows}


def _before(bounds: Sequence[datetime]) -> Q:
    return Q(created_at__lt=bounds[0]) if bounds else Q()


def _group(row: dict[str, Any], sample: DeadLetter | None, more: dict[str, int]) -> Group:
    sample = sample or DeadLetter()  # gone meanwhile
    return Group(
        row["fingerprint"],
        row["number"],
        row["first"],
        row["last"],
        more.get("organizations", 0),
        sample.name,
        sample.queue,
        sample.error_class,
        sample.message[:300],
        [more.get(f"day{at}", 0) for at in range(DAYS)],
    )
