"""Reinstating: what people have set by hand comes back to a Redis that has lost everything, from the audit log.

Paused queues, limits with another number, and breakers that were opened until somebody closes them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence

import redis as redis_py
from django.db.models import Max

from .. import broker
from ..models import AuditEntry

logger = logging.getLogger("wellos_jobs")


def reinstate(using: str, queues: Sequence[str], connection: redis_py.Redis) -> None:
    """Set anew what the last act on each queue, limit and breaker had set. Two queries for each kind."""
    for entry in _last_acts(using, "queue", ("paused", "resumed")):
        if entry.action == "paused" and entry.target_id in queues:
            note = json.dumps({"note": entry.reason, "at": broker.rq_time(entry.at)})
            broker.run(connection, "pause", entry.target_id, note)
            logger.info("queue %s is paused again, as before Redis was emptied", entry.target_id)
    for entry in _last_acts(using, "limit", ("set limit",)):
        if (most := entry.detail.get("most")) is not None:
            broker.run(connection, "limit", entry.target_id, most)
            logger.info("limit %s is %s again, as before Redis was emptied", entry.target_id, most)
    for entry in _last_acts(using, "breaker", ("tripped breaker", "reset breaker")):
        if entry.action == "tripped breaker":
            broker.run(connection, "breaker", f"b:{entry.target_id}", "open")
            logger.info("breaker %s is open again, as before Redis was emptied", entry.target_id)


def _last_acts(using: str, kind: str, actions: Sequence[str]) -> Iterable[AuditEntry]:
    """Return the last of these acts on each target."""
    rows = AuditEntry.objects.using(using).filter(target_type=kind, action__in=actions)
    last = list(
        rows.order_by().values("target_id").annotate(last=Max("pk")).values_list("last", flat=True)
    )
    return AuditEntry.objects.using(using).in_bulk(last).values() if last else []
