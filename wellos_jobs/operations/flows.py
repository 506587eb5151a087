"""Operator actions on whole flows and batches, with an audit entry beside those of the jobs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from django.db import models, transaction
from django.utils.translation import gettext as _

from ..database import database_of, write_alias
from ..definitions import ids
from ..enqueueing.batches import Batch
from ..enqueueing.flows import FlowHandle
from ..errors import InvalidOperation, JobNotFound
from ..models import Batch as BatchRow
from ..models import JobRecord
from ..states import FINAL_STATES, AuditAction, BatchState
from .audit import Actor, BulkResult, try_each, with_redis
from .replay import revive


def cancel_flow(
    flow_id: uuid.UUID | str,
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
    database: str | None = None,
) -> int:
    """Cancel every job of a flow that is not final; return how many.

    Raises:
        InvalidOperation: all its jobs are final, or others have canceled them.
        JobNotFound: there is no such flow.
        RedisUnavailable: Redis is unavailable; the jobs not reached yet stay as they were.
    """
    using, rows = _flow(flow_id, database)
    handle = FlowHandle(uuid.UUID(str(flow_id)), [], using)
    with transaction.atomic(using=using):
        if not rows.exclude(state__in=FINAL_STATES).exists():
            raise InvalidOperation(_("Every job of flow %(flow)s has ended") % {"flow": flow_id})
        count = with_redis(handle.cancel)
        if not count:
            raise InvalidOperation(_("Flow %(flow)s is being canceled already") % {"flow": flow_id})
        Actor(by, reason, address).record(using, AuditAction.CANCELED, "flow", flow_id, jobs=count)
    return count


def retry_flow(
    flow_id: uuid.UUID | str,
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
    database: str | None = None,
) -> list[JobRecord]:
    """Run the failed jobs of a flow again, then the dependents that ended because they failed.

    Returns the failed jobs.

    Raises:
        InvalidOperation: no job of it has failed.
        JobNotFound: there is no such flow.
    """
    using, rows = _flow(flow_id, database)
    return _retried(rows, using, Actor(by, reason, address), "flow", flow_id)


def cancel_batch(
    batch_id: uuid.UUID | str,
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
    database: str | None = None,
) -> int:
    """Close a batch and cancel its jobs that are not final; return how many.

    Raises:
        InvalidOperation: the batch is done, or others have canceled it.
        JobNotFound: there is no such batch.
        RedisUnavailable: Redis is unavailable; the jobs not reached yet stay as they were.
    """
    batch = Batch.get(batch_id, database)
    with transaction.atomic(using=batch.database):
        before = BatchRow.objects.using(batch.database).select_for_update().get(pk=batch.id).state
        if before == BatchState.DONE:
            raise InvalidOperation(_("Batch %(batch)s is done") % {"batch": batch.name})
        jobs = JobRecord.objects.using(batch.database).filter(batch_id=batch.id)
        had_open_jobs = jobs.exclude(state__in=FINAL_STATES).exists()
        count = with_redis(batch.cancel)
        if had_open_jobs and not count and before == BatchState.CLOSED:
            raise InvalidOperation(
                _("Batch %(batch)s is being canceled already") % {"batch": batch.name}
            )
        Actor(by, reason, address).record(
            batch.database, AuditAction.CANCELED, "batch", batch.id, name=batch.name, jobs=count
        )
    return count


def retry_batch(
    batch_id: uuid.UUID | str,
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
    database: str | None = None,
) -> list[JobRecord]:
    """Run the failed jobs of a batch again.

    ``on_success`` runs if all jobs then complete; ``on_complete`` runs only once.

    Raises:
        InvalidOperation: no job of it has failed.
        JobNotFound: there is no such batch.
    """
    batch = Batch.get(batch_id, database)
    rows = JobRecord.objects.using(batch.database).filter(batch_id=batch.id)
    return _retried(rows, batch.database, Actor(by, reason, address), "batch", batch.id)


def cancel_batches(
    batches: Iterable[BatchRow], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Cancel all of ``batches`` that are not done."""
    return _each(cancel_batch, batches, by=by, reason=reason, address=address)


def retry_batches(
    batches: Iterable[BatchRow], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Run the failed jobs of all of ``batches`` again."""
    return _each(retry_batch, batches, by=by, reason=reason, address=address)


def _each(step: Callable[..., Any], batches: Iterable[BatchRow], **actor: Any) -> BulkResult:
    result = BulkResult()
    try_each(result, batches, lambda batch: step(batch.pk, database=database_of(batch), **actor))
    return result


def _retried(
    rows: models.QuerySet[JobRecord], using: str, actor: Actor, kind: str, target: uuid.UUID | str
) -> list[JobRecord]:
    with transaction.atomic(using=using):
        revived = revive(rows, using, actor, AuditAction.RETRIED)
        if not revived:
            raise InvalidOperation(
                _("No job of %(kind)s %(target)s has failed") % {"kind": kind, "target": target}
            )
        actor.record(using, AuditAction.RETRIED, kind, target, jobs=len(revived))
    return revived


def _flow(flow_id: uuid.UUID | str, database: str | None) -> tuple[str, models.QuerySet[JobRecord]]:
    using = write_alias(database)
    known = ids.parse_id(flow_id)
    rows = JobRecord.objects.using(using).filter(flow_id=known)
    if known is None or not rows.exists():
        raise JobNotFound(f"There is no flow {flow_id} in the database {using!r}")
    return using, rows
