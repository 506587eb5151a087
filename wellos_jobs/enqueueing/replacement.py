"""Replacement: a new job replaces the open one with the same key, unless the two are identical.

The ``Replacement`` row is part of the same transaction. The old job is canceled when that commits;
if the process dies or Redis is unavailable, the maintenance process cancels it later.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from django.db import connections
from django.db.models import Exists, OuterRef
from django.utils import timezone

from .. import broker
from ..broker import job_hash, keys
from ..database import current, has_snapshot, run_on_commit
from ..sql import update_rows
from ..states import OPEN_STATES, JobState
from . import control
from .chunks import CHUNK, in_chunks
from .context import current_job

if TYPE_CHECKING:
    from ..models import JobRecord, UniqueClaim

logger = logging.getLogger("wellos_jobs")

COMPARED = ("name", "queue", "priority", "data", "run_at", "organization_id")
"""Two jobs are identical if these are equal. Encrypted values never are."""
GRACE = timedelta(seconds=2)
"""How long ``finish`` leaves a replacement to the process that committed it."""


class Decision(Enum):
    """What a new job means for the one that has its key."""

    KEEP_OLD = auto()
    """Nothing is different: the new one is not inserted."""
    TAKE_KEY = auto()
    """The new one takes the key, and the old one is left to end."""
    REPLACE_OLD = auto()
    """The new one takes the key, and the old one is canceled."""


def make_room(wanted: Mapping[str, JobRecord | None], database: str) -> list[JobRecord]:
    """Give keys to new jobs; return those to insert. Map a key to None to free it.

    A replaced job is canceled when the transaction commits. Call it in that of the INSERT.
    """
    by_digest = {
        hashlib.sha256(f"replaces:{key}".encode()).hexdigest(): job for key, job in wanted.items()
    }
    held = _lock(by_digest, database)
    holders = _open_holders(held.values(), database)

    taken: list[UniqueClaim] = []
    admitted: set[uuid.UUID] = set()
    replaced: list[JobRecord] = []
    for digest, claim in held.items():
        job, holder = by_digest[digest], holders.get(claim.job)
        decision = _decide(holder, job)
        if decision is Decision.KEEP_OLD:
            continue
        if holder is not None and decision is Decision.REPLACE_OLD:
            replaced.append(holder)

        if job is None:
            claim.delete(using=database)
        else:
            admitted.add(job.pk)
            if claim.job != job.pk:
                claim.job = job.pk
                taken.append(claim)

    update_rows(taken, ["job"], database)
    _cancel_on_commit(replaced, database)
    return [job for job in wanted.values() if job is not None and job.pk in admitted]


def _decide(holder: JobRecord | None, job: JobRecord | None) -> Decision:
    """Return what happens to the open job with a key, which a new job (or None) is to have.

    A running job may have read data from before the change. So the new one is always inserted, to
    run after it; the running one is canceled unless the two are identical.
    """
    if holder is None:
        return Decision.TAKE_KEY
    if job is not None and _is_same(holder, job):
        return Decision.TAKE_KEY if holder.state == JobState.ACTIVE else Decision.KEEP_OLD
    return Decision.TAKE_KEY if holder.pk == _own_id() else Decision.REPLACE_OLD


def finish(database: str, served: Sequence[str]) -> int:
    """Cancel replaced jobs that are still open; return how many there were.

    Call it only when all events are applied. Raises redis-py's errors; the next call does the rest.
    """
    from ..models import JobRecord, Replacement

    now = timezone.now()
    young = (now - GRACE, now + GRACE)  # rows from the future come from a clock that is ahead
    replaced = Replacement.objects.using(database).exclude(created_at__range=young)
    if not replaced.exists():
        return 0

    still_open = JobRecord.objects.using(database).filter(state__in=OPEN_STATES)
    rows = list(
        still_open.filter(pk__in=replaced.values("job"), queue__in=served).order_by("pk")[:CHUNK]
    )
    for record in rows:
        control.cancel(record)
    replaced.filter(~Exists(still_open.filter(pk=OuterRef("job")))).delete()
    return len(rows)


def _lock(by_digest: Mapping[str, JobRecord | None], database: str) -> dict[str, UniqueClaim]:
    """Claim the free keys and lock all of them, in order, so that two transactions do not deadlock.

    An upsert, because on MariaDB an INSERT of an existing key leaves a shared lock: two
    transactions that then update the row would wait for each other.
    """
    from ..models import UniqueClaim

    claims = UniqueClaim.objects.using(database)
    target = connections[database].features.supports_update_conflicts_with_target
    digests = sorted(by_digest)
    claims.bulk_create(
        [
            UniqueClaim(key=digest, job=job.pk)
            for digest in digests
            if (job := by_digest[digest]) is not None
        ],
        update_conflicts=True,
        update_fields=["expires"],
        unique_fields=["key"] if target else None,
    )

    found: dict[str, UniqueClaim] = {}
    for chunk in in_chunks(digests):
        rows = claims.select_for_update().filter(pk__in=chunk)
        found.update((claim.key, claim) for claim in rows.order_by("pk"))
    return found


def _open_holders(claims: Iterable[UniqueClaim], database: str) -> dict[uuid.UUID, JobRecord]:
    """Return the open jobs that hold keys, by their states in Redis, which are newer."""
    from ..models import JobRecord

    wanted = [claim.job for claim in claims]
    jobs = JobRecord.objects.using(database)
    rows = jobs.in_bulk(wanted)
    if has_snapshot(database) and (newer := [pk for pk in wanted if pk not in rows]):
        rows |= {record.pk: record for record in current(jobs.filter(pk__in=newer).order_by())}
    found = [record for record in rows.values() if record.state in OPEN_STATES]
    by_queue: dict[str, list[JobRecord]] = {}
    for record in found:
        by_queue.setdefault(record.queue, []).append(record)
    for queue, group in by_queue.items():
        _update_states(queue, group)

    return {record.pk: record for record in found if record.state in OPEN_STATES}


def _update_states(queue: str, records: Sequence[JobRecord]) -> None:
    """Set the states from Redis. Those of the rows count if it is unavailable or lacks a job."""
    fields = (job_hash.STATUS, job_hash.GENERATION)
    try:
        with broker.briefly(broker.source_of(queue)) as connection:
            pipeline = connection.pipeline(transaction=False)
            for record in records:
                pipeline.hmget(keys.job(record.pk), fields)
            answers = pipeline.execute()
    except broker.Unavailable:
        return

    for record, values in zip(records, answers, strict=True):
        found = job_hash.decode(fields, values)
        record.state = job_hash.state(found, record.replays) or record.state


def _is_same(earlier: JobRecord, record: JobRecord) -> bool:
    return earlier.pk == record.pk or all(
        getattr(earlier, name) == getattr(record, name) for name in COMPARED
    )


def _own_id() -> uuid.UUID | None:
    """Return the id of the job that runs here, which is not canceled by what it enqueues."""
    run = current_job(None)
    return uuid.UUID(run.id) if run is not None else None


def _cancel_on_commit(records: Sequence[JobRecord], database: str) -> None:
    from ..models import Replacement

    if not records:
        return

    now = timezone.now()
    rows = [Replacement(job=record.pk, created_at=now) for record in records]
    Replacement.objects.using(database).bulk_create(rows, ignore_conflicts=True)
    run_on_commit(database, _cancel, records)


def _cancel(records: Sequence[JobRecord]) -> None:
    for record in records:
        try:
            with broker.briefly(broker.source_of(record.queue)) as connection:
                control.cancel(record, connection=connection)
        except broker.KeptAway as error:
            logger.debug("job=%s is replaced, but not canceled: %s", record.pk, error)
        except broker.Error as error:
            logger.warning(
                "job=%s is replaced, and will be canceled when Redis is available: %s",
                record.pk,
                error,
            )
            return
