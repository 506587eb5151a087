"""Prune: delete the rows of jobs that ended long ago, by ``RETENTION``, in small batches.

The audit log and the statistics are not touched. A failed job with an open dead letter stays until the letter is
closed, unless ``RETENTION["dead_letters"]`` says how long open letters are kept.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef
from django.utils import timezone

from . import conf
from .models import DeadLetter, JobRecord, UniqueClaim
from .states import DeadLetterStatus, JobState

Rows = models.QuerySet[Any]

BATCH = 1_000
"""Rows deleted in one transaction: few enough that the ledger does not wait."""


def prune(using: str, dry_run: bool = False) -> dict[str, int]:
    """Delete what is older than it is kept; return how many rows by kind (``completed``, ..., ``dead_letters``).

    With ``dry_run`` nothing is deleted, and the numbers say what would be.
    """
    now = timezone.now()
    retention = conf.current().retention
    old: dict[str, Rows] = {}
    open_letters = DeadLetter.objects.using(using).filter(status=DeadLetterStatus.OPEN)
    kept_letters = open_letters
    if (age := retention["dead_letters"]) is not None:
        old["dead_letters"] = open_letters.filter(created_at__lt=now - age)
        kept_letters = open_letters.filter(created_at__gte=now - age)
    for state in (JobState.COMPLETED, JobState.CANCELED, JobState.FAILED):
        if (age := retention[state]) is not None:
            ended = JobRecord.objects.using(using).filter(state=state, finished_at__lt=now - age)
            old[state.value] = ended.exclude(Exists(kept_letters.filter(job=OuterRef("pk"))))
    if not dry_run:
        UniqueClaim.objects.using(using).filter(expires__lt=now).delete()
    count = models.QuerySet.count if dry_run else _delete
    kinds = dict.fromkeys(("dead_letters", *retention))  # letters first, then the jobs they held
    return {kind: count(old[kind]) if kind in old else 0 for kind in kinds}


def _delete(rows: Rows) -> int:
    """Delete in batches by primary key: MySQL has no DELETE with a subquery on the same table and a LIMIT."""
    deleted = 0
    while batch := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        rows.model._default_manager.using(rows.db).filter(pk__in=batch).delete()
        deleted += len(batch)
    return deleted
