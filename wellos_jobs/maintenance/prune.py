"""Prune: delete the rows of jobs that ended long ago, by ``RETENTION``, in small batches.

The counts of days go after 90 days, unless ``RETENTION["statistics"]`` says otherwise, those of
minutes and hours as soon as no chart reads them; the audit log stays for ever, unless
``RETENTION["audit"]`` says how long. A failed job with an open dead letter stays until the letter
is closed, unless ``RETENTION["dead_letters"]`` says how long open letters are kept. A job stays
while another one that needs it has not ended, or while its batch is closed and not done. A batch
goes with the last of its jobs.
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
"""How long counts by minute and hour are kept; the same counts by day stay longer."""
WINDOWS_KEPT = timedelta(days=1)
"""How long it is kept how many mails were sent about a fault that has not come again."""

BATCH = 1_000
"""Rows deleted in one transaction: few enough that the ledger does not wait."""


def prune(
    using: str,
    dry_run: bool = False,
    most: int | None = None,
    retention: Mapping[str, timedelta | None] | None = None,
) -> dict[str, int]:
    """Delete what is older than it is kept; return how many rows by kind (``completed``, ..., ``audit``).

    With ``dry_run`` nothing is deleted, and the numbers say what would be. ``most`` is how many
    batches of each kind are deleted at most: the housekeeping, which has to go on with the ledger,
    takes one at a time until none is left. ``retention`` says how long rows are kept, by kind,
    instead of ``RETENTION``.
    """
    now = timezone.now()
    retention = conf.current().retention if retention is None else retention
    old: dict[str, Rows] = {}
    open_letters = DeadLetter.objects.using(using).filter(status=DeadLetterStatus.OPEN)
    kept_letters = open_letters
    if (age := retention["dead_letters"]) is not None:
        old["dead_letters"] = open_letters.filter(created_at__lt=now - age)
        kept_letters = open_letters.filter(created_at__gte=now - age)
    for state in (JobState.COMPLETED, JobState.CANCELED, JobState.FAILED):
        if (age := retention[state]) is not None:
            ended = JobRecord.objects.using(using).filter(state=state, finished_at__lt=now - age)
            needed = JobDependency.objects.using(using).filter(
                needs=OuterRef("pk"), job__state__in=OPEN_STATES
            )
            free = ended.exclude(Exists(needed)).exclude(batch__state=BatchState.CLOSED)
            old[state.value] = free.exclude(Exists(kept_letters.filter(job=OuterRef("pk"))))
    if (age := retention["statistics"]) is not None:
        old["statistics"] = DayStatistic.objects.using(using).filter(begins_at__lt=now - age)
    if (age := retention["audit"]) is not None:
        old["audit"] = AuditEntry.objects.using(using).filter(at__lt=now - age)
    kinds = dict.fromkeys(("dead_letters", *retention))  # letters first, then the jobs they held
    finer = (
        JobStatistic.objects.using(using).filter(begins_at__lt=now - MINUTES_KEPT),
        HourStatistic.objects.using(using).filter(begins_at__lt=now - HOURS_KEPT),
    )
    if dry_run:
        counted = {kind: old[kind].count() if kind in old else 0 for kind in kinds}
        return counted | {"statistics": counted["statistics"] + sum(rows.count() for rows in finer)}
    deleted = {kind: _delete(old[kind], most) if kind in old else 0 for kind in kinds}
    deleted["statistics"] += sum(_delete(rows, most) for rows in finer)
    if most is None or not any(deleted.values()):
        _delete_left_over(using, now)
    return deleted


def _delete_left_over(using: str, now: datetime) -> None:
    """Delete unique claims and notice windows that count no more, and old batches without jobs."""
    jobs = JobRecord.objects.using(using)
    claims = UniqueClaim.objects.using(using)
    _delete(claims.filter(expires__lt=now))
    _delete(claims.filter(~Exists(jobs.filter(pk=OuterRef("job"))), expires=None))
    _delete(
        NoticeWindow.objects.using(using).filter(since__lt=now - WINDOWS_KEPT, pending=0, sending=0)
    )
    ages = [age for state in FINAL_STATES if (age := conf.current().retention[state]) is not None]
    if ages:
        old = Batch.objects.using(using).filter(created_at__lt=now - max(ages))
        over = old.filter(~Exists(jobs.filter(batch=OuterRef("pk")))).exclude(
            state=BatchState.CLOSED
        )
        _delete(over.exclude(on_complete__state__in=OPEN_STATES))


def _delete(rows: Rows, most: int | None = None) -> int:
    """Delete in batches by primary key: MySQL has no DELETE with a subquery on the same table and a LIMIT.

    Once a batch is locked it is looked at again: somebody may have retried a job, or taken a unique
    key over, since.
    """
    every = rows.model._default_manager.using(rows.db)
    turns: Iterable[int] = itertools.count() if most is None else range(most)
    deleted = 0
    for _ in turns:
        batch = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
        if not batch:
            break
        with transaction.atomic(using=rows.db):
            list(
                every.filter(pk__in=batch)
                .order_by("pk")
                .select_for_update()
                .values_list("pk", flat=True)
            )
            still = list(rows.filter(pk__in=batch).order_by().values_list("pk", flat=True))
            every.filter(pk__in=still).delete()
        deleted += len(still)
    return deleted
