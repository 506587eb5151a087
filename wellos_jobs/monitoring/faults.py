"""Dead letters grouped by fault: those with the same fingerprint failed for the same reason.

Read-only.
"""

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
"""The number of days in a fault's sparkline; the last one is today."""
WINDOWS: dict[str, timedelta] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
ORDERS = {"count": ("-number", "-last"), "last": ("-last",), "first": ("first",)}


@dataclass(frozen=True)
class FaultFilter:
    """Which dead letters to group; '' does not filter by that column."""

    status: str = DeadLetterStatus.OPEN.value
    queue: str = ""
    name: str = ""
    organization: str = ""
    window: str = ""

    def apply(self, dead_letters: QuerySet[DeadLetter]) -> QuerySet[DeadLetter]:
        """Return the dead letters that match."""
        exact = {
            "status": self.status,
            "queue": self.queue,
            "name": self.name,
            "organization_id": self.organization,
        }
        chosen = dead_letters.filter(**{column: value for column, value in exact.items() if value})
        if self.window in WINDOWS:
            chosen = chosen.filter(created_at__gte=timezone.now() - WINDOWS[self.window])
        return chosen


@dataclass(frozen=True)
class Fault:
    """The dead letters of one fingerprint. Job name, error and message are those of the newest."""

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


def faults_of(
    dead_letters: QuerySet[DeadLetter], order: str = "count", start: int = 0, most: int = 25
) -> list[Fault]:
    """Return a page of the faults of some dead letters, most frequent first or by ``order``.

    Three queries, however many there are.
    """
    found = _counted(dead_letters, order, start, most)
    if not found:
        return []

    chosen = dead_letters.filter(fingerprint__in=[row["fingerprint"] for row in found]).order_by()
    newest = _newest(chosen, found)
    details = _details(chosen)
    return [
        _fault(row, newest.get(row["fingerprint"]), details.get(row["fingerprint"], {}))
        for row in found
    ]


def fault_of(dead_letters: QuerySet[DeadLetter], fingerprint: str) -> Fault | None:
    """Return one fault; None if no dead letter has this fingerprint. Three queries."""
    return next(iter(faults_of(dead_letters.filter(fingerprint=fingerprint), most=1)), None)


def last_canary(fingerprint: str) -> AuditEntry | None:
    """Return the audit entry of the last canary of a fault. One query."""
    sent = AuditEntry.objects.filter(
        target_type="fault", target_id=fingerprint, action=AuditAction.SENT_CANARY
    )
    return sent.order_by("-at", "-pk").first()


def _counted(
    dead_letters: QuerySet[DeadLetter], order: str, start: int, most: int
) -> list[dict[str, Any]]:
    grouped = dead_letters.order_by().values("fingerprint")
    counted = grouped.annotate(
        number=Count("fingerprint"), first=Min("created_at"), last=Max("created_at")
    )
    rows: Any = counted.order_by(*ORDERS.get(order, ORDERS["count"]), "fingerprint")
    return list(rows[start : start + most])


def _newest(
    dead_letters: QuerySet[DeadLetter], found: Sequence[dict[str, Any]]
) -> dict[str, DeadLetter]:
    """Return the newest dead letter of each fault: one index lookup each, in one query."""
    newest = reduce(
        operator.or_, (Q(fingerprint=row["fingerprint"], created_at=row["last"]) for row in found)
    )
    columns = ("fingerprint", "name", "queue", "error_class", "message")
    rows = dead_letters.filter(newest).only(*columns)
    return {dead_letter.fingerprint: dead_letter for dead_letter in rows}


def _details(dead_letters: QuerySet[DeadLetter]) -> dict[str, dict[str, int]]:
    """Count organizations, and dead letters by day.

    It compares with the bounds of each day, because few databases know time zones.
    """
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    bounds = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]

    counts: dict[str, Any] = {}
    for place, bound in enumerate(bounds):
        of_day = Q(created_at__gte=bound) & _before(bounds[place + 1 :])
        counts[f"day{place}"] = Count("fingerprint", filter=of_day)
    counts["organizations"] = Count("organization_id", distinct=True, filter=~Q(organization_id=""))

    rows: Any = dead_letters.values("fingerprint").annotate(**counts)
    return {row["fingerprint"]: row for row in rows}


def _before(bounds: Sequence[datetime]) -> Q:
    return Q(created_at__lt=bounds[0]) if bounds else Q()


def _fault(row: dict[str, Any], newest: DeadLetter | None, details: dict[str, int]) -> Fault:
    newest = newest or DeadLetter()  # deleted since it was counted
    return Fault(
        fingerprint=row["fingerprint"],
        number=row["number"],
        first=row["first"],
        last=row["last"],
        organizations=details.get("organizations", 0),
        name=newest.name,
        queue=newest.queue,
        error_class=newest.error_class,
        message=newest.message[:300],
        days=[details.get(f"day{place}", 0) for place in range(DAYS)],
    )
