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

from collections.abc import Mapping
from datetime import datetime, timedelta

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
from .held_rows import HeldRows, Rows, unprotected

MINUTES_KEPT = timedelta(days=3)
HOURS_KEPT = timedelta(days=15)
"""How long statistics by minute and hour are kept; those by day are kept longer."""

WINDOWS_KEPT = timedelta(days=1)
"""How long the mail window of a fingerprint is kept after its last failure."""


def prune(
    using: str,
    dry_run: bool = False,
    most: int | None = None,
    retention: Mapping[str, timedelta | None] | None = None,
    held: HeldRows | None = None,
) -> dict[str, int]:
    """Delete rows past their retention; return the number of rows by kind (``completed`` ...).

    With ``dry_run`` nothing is deleted: the numbers are what would be. ``most`` limits the batches
    of each kind: the housekeeping deletes one at a time until none is left. ``retention`` replaces
    ``RETENTION``. ``held`` remembers between calls which rows the project holds: they are kept.

    Raises:
        OperationalError, InterfaceError: the database is unavailable.
    """
    now = timezone.now()
    retention = conf.current().retention if retention is None else retention
    held = held or HeldRows()

    expired = _expired(using, now, retention)
    fine_statistics = (
        JobStatistic.objects.using(using).filter(begins_at__lt=now - MINUTES_KEPT),
        HourStatistic.objects.using(using).filter(begins_at__lt=now - HOURS_KEPT),
    )
    kinds = dict.fromkeys(("dead_letters", *retention))  # dead letters first: they hold jobs

    if dry_run:
        counted = {
            kind: unprotected(expired[kind]).count() if kind in expired else 0 for kind in kinds
        }
        counted["statistics"] += sum(rows.count() for rows in fine_statistics)
        return counted

    deleted = {kind: held.delete(expired[kind], most) if kind in expired else 0 for kind in kinds}
    deleted["statistics"] += sum(held.delete(rows, most) for rows in fine_statistics)
    if most is None or not any(deleted.values()):
        _delete_left_over(using, now, held)
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


def _delete_left_over(using: str, now: datetime, held: HeldRows) -> None:
    """Delete expired unique claims and mail windows, and old batches without jobs."""
    jobs = JobRecord.objects.using(using)

    claims = UniqueClaim.objects.using(using)
    held.delete(claims.filter(expires__lt=now))
    held.delete(claims.filter(~Exists(jobs.filter(pk=OuterRef("job"))), expires=None))

    windows = NoticeWindow.objects.using(using)
    held.delete(windows.filter(since__lt=now - WINDOWS_KEPT, pending=0, sending=0))

    ages = [age for state in FINAL_STATES if (age := conf.current().retention[state]) is not None]
    if ages:
        old = Batch.objects.using(using).filter(created_at__lt=now - max(ages))
        empty = old.filter(~Exists(jobs.filter(batch=OuterRef("pk"))))
        settled = empty.exclude(state=BatchState.CLOSED)
        held.delete(settled.exclude(on_complete__state__in=OPEN_STATES))
