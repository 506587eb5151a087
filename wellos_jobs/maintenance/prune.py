"""Prune: delete rows of jobs that ended longer ago than ``RETENTION``, in small batches.

- Daily statistics are kept for 90 days by default (``RETENTION["statistics"]``), minutes and hours
  only as long as charts read them.
- The audit log is kept forever, unless ``RETENTION["audit"]`` is set.
- A failed job with an open dead letter is kept until that is closed, unless
  ``RETENTION["dead_letters"]`` limits it.
- A job is kept while a job that needs it is open, or while its batch is closed but not done.
- A batch is deleted with the last of its jobs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from .. import conf
from ..models import (
    AuditEntry,
    Batch,
    DayStatistic,
    DeadLetter,
    HourStatistic,
    JobDependency,
    JobRecord,
    JobStatistic,
    NoticeWindow,
    UniqueClaim,
)
from ..states import FINAL_STATES, OPEN_STATES, BatchState, DeadLetterStatus, JobState

Rows = models.QuerySet[Any]

MINUTES_KEPT = timedelta(days=3)
HOURS_KEPT = timedelta(days=15)
"""How long statistics by minute and hour are kept; those by day are kept longer."""

WINDOWS_KEPT = timedelta(days=1)
"""How long the mail window of a fingerprint is kept after its last failure."""

BATCH = 1_000
"""Rows deleted in one transaction: few enough not to hold up the ledger."""


def prune(
    using: str,
    dry_run: bool = False,
    most: int | None = None,
    retention: Mapping[str, timedelta | None] | None = None,
) -> dict[str, int]:
    """Delete rows past their retention; return the number of rows by kind (``completed`` ...).

    With ``dry_run`` nothing is deleted: the numbers are what would be. ``most`` limits the batches
    of each kind: the housekeeping deletes one at a time until none is left. ``retention`` replaces
    ``RETENTION``.
    """
    now = timezone.now()
    retention = conf.current().retention if retention is None else retention

    expired = _expired(using, now, retention)
    fine_statistics = (
        JobStatistic.objects.using(using).filter(begins_at__lt=now - MINUTES_KEPT),
        HourStatistic.objects.using(using).filter(begins_at__lt=now - HOURS_KEPT),
    )
    kinds = dict.fromkeys(("dead_letters", *retention))  # dead letters first: they hold jobs

    if dry_run:
        counted = {kind: expired[kind].count() if kind in expired else 0 for kind in kinds}
        counted["statistics"] += sum(rows.count() for rows in fine_statistics)
        return counted

    deleted = {kind: _delete(expired[kind], most) if kind in expired else 0 for kind in kinds}
    deleted["statistics"] += sum(_delete(rows, most) for rows in fine_statistics)
    if most is None or not any(deleted.values()):
        _delete_left_over(using, now)
    return deleted


def _expired(
    using: str, now: datetime, retention: Mapping[str, timedelta | None]
) -> dict[str, Rows]:
    """Return the rows past their retention, by kind; kinds that are kept forever are missing."""
    found: dict[str, Rows] = {}

    open_letters = DeadLetter.objects.using(using).filter(status=DeadLetterStatus.OPEN)
    kept_letters = open_letters
    if (age := retention["dead_letters"]) is not None:
        found["dead_letters"] = open_letters.filter(created_at__lt=now - age)
        kept_letters = open_letters.filter(created_at__gte=now - age)

    for state in (JobState.COMPLETED, JobState.CANCELED, JobState.FAILED):
        if (age := retention[state]) is not None:
            ended = JobRecord.objects.using(using).filter(state=state, finished_at__lt=now - age)
            needed = JobDependency.objects.using(using).filter(
                needs=OuterRef("pk"), job__state__in=OPEN_STATES
            )
            free = ended.exclude(Exists(needed)).exclude(batch__state=BatchState.CLOSED)
            found[state.value] = free.exclude(Exists(kept_letters.filter(job=OuterRef("pk"))))

    if (age := retention["statistics"]) is not None:
        found["statistics"] = DayStatistic.objects.using(using).filter(begins_at__lt=now - age)
    if (age := retention["audit"]) is not None:
        found["audit"] = AuditEntry.objects.using(using).filter(at__lt=now - age)
    return found


def _delete_left_over(using: str, now: datetime) -> None:
    """Delete expired unique claims and mail windows, and old batches without jobs."""
    jobs = JobRecord.objects.using(using)

    claims = UniqueClaim.objects.using(using)
    _delete(claims.filter(expires__lt=now))
    _delete(claims.filter(~Exists(jobs.filter(pk=OuterRef("job"))), expires=None))

    windows = NoticeWindow.objects.using(using)
    _delete(windows.filter(since__lt=now - WINDOWS_KEPT, pending=0, sending=0))

    ages = [age for state in FINAL_STATES if (age := conf.current().retention[state]) is not None]
    if ages:
        old = Batch.objects.using(using).filter(created_at__lt=now - max(ages))
        empty = old.filter(~Exists(jobs.filter(batch=OuterRef("pk"))))
        settled = empty.exclude(state=BatchState.CLOSED)
        _delete(settled.exclude(on_complete__state__in=OPEN_STATES))


def _delete(rows: Rows, most: int | None = None) -> int:
    """Delete in batches by primary key: MySQL cannot DELETE with a LIMIT and a subquery.

    The condition is checked again once the batch is locked: a job may have been retried, or a
    unique key taken over, meanwhile.
    """
    every = rows.model._default_manager.using(rows.db)
    rounds: Iterable[int] = itertools.count() if most is None else range(most)
    deleted = 0

    for _ in rounds:
        batch = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
        if not batch:
            break

        with transaction.atomic(using=rows.db):
            locked = every.filter(pk__in=batch).order_by("pk").select_for_update()
            list(locked.values_list("pk", flat=True))
            still = list(rows.filter(pk__in=batch).order_by().values_list("pk", flat=True))
            every.filter(pk__in=still).delete()
        deleted += len(still)
    return deleted
