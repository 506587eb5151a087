"""Replacing: a new job takes the place of the open one under its key, unless nothing is different."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from . import queues, redis
from .commits import once_committed
from .states import OPEN_STATES

if TYPE_CHECKING:
    from .models import JobRecord

logger = logging.getLogger("wellos_jobs")

COMPARED = ("name", "queue", "priority", "data", "run_at", "organization_id")
"""What makes two jobs different. Sensitive values are encrypted anew each time, so they always do."""
TRIES = 5


def make_room(key: str, record: JobRecord | None, database: str) -> bool:
    """Let ``record``, about to be inserted, have a key; the open job there is cancelled when the transaction commits.

    Returns False if nothing is to be inserted: there is no record, or the job there is just like it. Call it in the
    transaction of the INSERT. When Redis is away at the commit, the earlier job is not stopped, and the log says so.
    """
    from .models import JobRecord, UniqueClaim

    digest = hashlib.sha256(f"replaces:{key}".encode()).hexdigest()
    claims = UniqueClaim.objects.using(database)
    for _ in range(TRIES):
        held = claims.select_for_update().filter(pk=digest).first()
        earlier = JobRecord.objects.using(database).filter(pk=held.job).first() if held else None
        if earlier is not None and earlier.state not in OPEN_STATES:
            earlier = None
        if earlier is not None and record is not None and _is_like(earlier, record):
            return False
        if record is not None and held is None:
            try:
                with transaction.atomic(using=database):
                    claims.create(key=digest, job=record.pk)
            except IntegrityError:
                continue  # somebody else has just taken it: look again
        elif record is not None:
            claims.filter(pk=digest).update(job=record.pk)
        if earlier is not None:
            once_committed(database, _cancel, earlier)
        return record is not None
    raise IntegrityError(f"the key {key!r} changed hands {TRIES} times while it was asked for")


def _is_like(earlier: JobRecord, record: JobRecord) -> bool:
    return all(getattr(earlier, name) == getattr(record, name) for name in COMPARED)


def _cancel(earlier: JobRecord) -> None:
    try:
        queues.cancel(earlier)
    except redis.Error as error:
        logger.warning("job=%s has been replaced, but could not be cancelled: %s", earlier.pk, error)
