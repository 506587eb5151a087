"""Cancel, promote or move a job in Redis. Its row follows through the event stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from .. import broker, payload
from ..broker import job_hash, keys
from ..database import database_of
from ..states import EventName, JobState, Priority
from . import stand_in
from .push import announce
from .stand_in import Canceled

if TYPE_CHECKING:
    from ..models import JobRecord


def cancel(
    record: JobRecord,
    detail: dict[str, Any] | None = None,
    connection: broker.Client | None = None,
    *,
    by: str = "",
) -> Canceled:
    """Cancel a job in any state; a running one is stopped through its supervisor.

    Of several that cancel one job at once, one gets the answer that it did. ``by`` identifies one
    that may repeat itself and then gets that answer again; by default it is this call.

    A job unknown to Redis gets a tombstone, so that a later push does nothing. If the row is
    already final, nothing is done: Redis may have forgotten the job.
    """
    if not record.is_foreign and JobState(record.state).is_final:
        if record.state != JobState.CANCELED:
            return "final"
        return "canceled" if was_canceled_by(record, by) else "already"

    if (runner := stand_in.current()) is not None:
        outcome = runner.cancel(record, detail)
    else:
        outcome = _cancel_in_redis(record, detail, connection, by or uuid.uuid4().hex)
    if outcome == "canceled":
        announce([record], EventName.CANCELED, timezone.now())
    return outcome


def _cancel_in_redis(
    record: JobRecord, detail: dict[str, Any] | None, connection: broker.Client | None, by: str
) -> Canceled:
    answer = broker.run(
        connection or broker.client(record.queue),
        "cancel",
        broker.rq_time(),
        record.rq_id or str(record.pk),
        record.queue,
        "" if record.is_foreign else record.name,
        database_of(record),
        str(record.replays),
        by,
        payload.to_json(detail) if detail else "",
    )
    return broker.text(answer)  # type: ignore[return-value]


def was_canceled_by(record: JobRecord, by: str) -> bool:
    """Return whether ``by`` has canceled a job. Redis knows it for a minute after its end."""
    if not by:
        return False
    key = keys.job(record.rq_id or str(record.pk))
    found = broker.client(record.queue).hget(key, job_hash.CANCELED_BY)
    return found is not None and broker.text(found) == by


def cancel_open(records: Iterable[JobRecord]) -> int:
    """Cancel jobs in any state; return how many of them this call has canceled."""
    return sum(cancel(record) in {"canceled", "stopping"} for record in records)


def promote(record: JobRecord) -> bool:
    """Let a delayed job run now. Returns whether it was delayed."""
    if (runner := stand_in.current()) is not None:
        return runner.promote(record)
    connection = broker.client(record.queue)
    job_id = record.rq_id or str(record.pk)
    return bool(broker.run(connection, "promote", broker.rq_time(), job_id))


def relocate(record: JobRecord, queue: str, priority: Priority) -> bool:
    """Change the queue or priority of a job. False when it has started or ended.

    For a job unknown to Redis, such as a blocked one, the row is enough.
    """
    if (runner := stand_in.current()) is not None:
        return runner.relocate(record, queue, priority)
    connection = broker.client(record.queue)
    return bool(broker.run(connection, "relocate", str(record.pk), queue, int(priority)))
