"""Replacing: a new job takes the place of the open one under its key, unless nothing is different.

That a job has given way is a row of the same transaction. It is cancelled once that commits, and if
the process dies or Redis is away then, the housekeeping cancels it later.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import connections
from django.db.models import Exists, OuterRef
from django.utils import timezone

from .. import broker
from ..broker import keys
from ..database import run_on_commit, update_many
from ..states import OPEN_STATES, STATE_OF_RQ_STATUS, JobState
from . import control
from .context import current_job

if TYPE_CHECKING:
    from ..models import JobRecord, UniqueClaim

logger = logging.getLogger("wellos_jobs")

COMPARED = ("name", "queue", "priority", "data", "run_at", "organization_id")
"""What makes two jobs different. Sensitive values are encrypted anew each time, so they always do."""
GRACE = timedelta(seconds=2)
"""A replacement this young is still being told to Redis by the process that committed it."""
CHUNK = 500


def make_room(wanted: Mapping[str, JobRecord | None], database: str) -> list[JobRecord]:
    """Let new jobs have their keys; return those to insert. None as a job: nobody is to have the key.

    The open job that has a key is cancelled when the transaction commits, unless the new one is
    just like it and would only do the same: then that is not inserted. One that runs already may
    have seen what was before; so the new one comes after it, and one that is just like it is left
    to end. Call it in the transaction of the INSERT.
    """
    by_digest = {
        hashlib.sha256(f"replaces:{key}".encode()).hexdigest(): job for key, job in wanted.items()
    }
    held = _lock(by_digest, database)
    earlier = _open_holders(held.values(), database)
    taken: list[UniqueClaim] = []
    admitted: set[uuid.UUID] = set()
    given_way: list[JobRecord] = []
    for digest, claim in held.items():
        job, before = by_digest[digest], earlier.get(claim.job)
        is_like = (
            job is not None
            and before is not None
            and (before.pk == job.pk or _is_like(before, job))
        )
        if is_like and before is not None and before.state != JobState.ACTIVE:
            continue
        if before is not None and not is_like and before.pk != _own_id():
            given_way.append(before)
        if job is None:
            claim.delete(using=database)
        else:
            admitted.add(job.pk)
            if claim.job != job.pk:
                claim.job = job.pk
                taken.append(claim)
    update_many(taken, ["job"], database)
    _give_way(given_way, database)
    return [job for job in wanted.values() if job is not None and job.pk in admitted]


def finish(database: str, served: Sequence[str]) -> int:
    """Cancel what has given way but is still open; return how many there were. Call it at the stream's end only.

    Raises: redis-py's errors; what is not reached then is left for the next time.
    """
    from ..models import JobRecord, Replacement

    given_way = Replacement.objects.using(database).filter(created_at__lt=timezone.now() - GRACE)
    if not given_way.exists():
        return 0
    still_open = JobRecord.objects.using(database).filter(state__in=OPEN_STATES)
    rows = list(
        still_open.filter(pk__in=given_way.values("job"), queue__in=served).order_by("pk")[:CHUNK]
    )
    for record in rows:
        control.cancel(record)
    given_way.filter(~Exists(still_open.filter(pk=OuterRef("job")))).delete()
    return len(rows)


def _lock(by_digest: Mapping[str, JobRecord | None], database: str) -> dict[str, UniqueClaim]:
    """Claim the keys that nobody has, and lock them all, in their order, so that two who do so do not deadlock.

    An upsert, because on MariaDB an INSERT that meets a key leaves a shared lock, and two who then
    change the row would wait for each other.
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
    for start in range(0, len(digests), CHUNK):
        rows = (
            claims.select_for_update().filter(pk__in=digests[start : start + CHUNK]).order_by("pk")
        )
        found.update((claim.key, claim) for claim in rows)
    return found


def _open_holders(claims: Iterable[UniqueClaim], database: str) -> dict[uuid.UUID, JobRecord]:
    """Return the jobs that hold keys and have not ended, by what Redis says, which knows before the rows do."""
    from ..models import JobRecord

    rows = JobRecord.objects.using(database).in_bulk([claim.job for claim in claims])
    found = [record for record in rows.values() if record.state in OPEN_STATES]
    by_queue: dict[str, list[JobRecord]] = {}
    for record in found:
        by_queue.setdefault(record.queue, []).append(record)
    for queue, group in by_queue.items():
        _ask_redis(queue, group)
    return {record.pk: record for record in found if record.state in OPEN_STATES}


def _ask_redis(queue: str, records: Sequence[JobRecord]) -> None:
    """Set the states that Redis knows; when it is away those of the rows count."""
    try:
        with broker.client(queue).pipeline(transaction=False) as pipeline:
            for record in records:
                pipeline.hget(keys.job(record.pk), "status")
            answers = list(map(broker.text, pipeline.execute()))
    except broker.Unavailable:
        return
    for record, status in zip(records, answers, strict=True):
        record.state = STATE_OF_RQ_STATUS.get(status, JobState(record.state))


def _is_like(earlier: JobRecord, record: JobRecord) -> bool:
    return all(getattr(earlier, name) == getattr(record, name) for name in COMPARED)


def _own_id() -> uuid.UUID | None:
    """Return the id of the job that runs here: it is not stopped for what it leads to."""
    run = current_job(None)
    return uuid.UUID(run.id) if run is not None else None


def _give_way(records: Sequence[JobRecord], database: str) -> None:
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
            control.cancel(record)
        except broker.Error as error:
            logger.warning(
                "job=%s has been replaced, and will be cancelled once Redis is back: %s",
                record.pk,
                error,
            )
            return
