"""Restore operator settings to a Redis that has lost everything, from the audit log.

Paused queues, changed limits, and circuit breakers opened by an operator.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence

import redis as redis_py
from django.db.models import Max

from .. import broker
from ..models import AuditEntry
from ..states import AuditAction

logger = logging.getLogger("wellos_jobs")


def restore(using: str, queues: Sequence[str], connection: redis_py.Redis) -> None:
    """Repeat the last operator action on each queue, limit and breaker. Two queries per kind."""
    for entry in _last_actions(using, "queue", (AuditAction.PAUSED, AuditAction.RESUMED)):
        if entry.action == AuditAction.PAUSED and entry.target_id in queues:
            note = json.dumps({"note": entry.reason, "at": broker.rq_time(entry.at)})
            broker.run(connection, "pause", entry.target_id, note)
            logger.info("restored after data loss in Redis: queue %s is paused", entry.target_id)

    for entry in _last_actions(using, "limit", (AuditAction.SET_LIMIT,)):
        if (most := entry.detail.get("most")) is not None:
            broker.run(connection, "set_limit", entry.target_id, most)
            logger.info("restored after data loss in Redis: limit %s is %s", entry.target_id, most)

    for entry in _last_actions(
        using, "breaker", (AuditAction.TRIPPED_BREAKER, AuditAction.RESET_BREAKER)
    ):
        if entry.action == AuditAction.TRIPPED_BREAKER:
            broker.run(connection, "breaker", f"b:{entry.target_id}", "open")
            logger.info("restored after data loss in Redis: breaker %s is open", entry.target_id)


def _last_actions(using: str, kind: str, actions: Sequence[str]) -> Iterable[AuditEntry]:
    """Return the newest of these actions on each target."""
    rows = AuditEntry.objects.using(using).filter(target_type=kind, action__in=actions)
    newest = rows.order_by().values("target_id").annotate(last=Max("pk"))
    keys = list(newest.values_list("last", flat=True))
    return AuditEntry.objects.using(using).in_bulk(keys).values() if keys else []
