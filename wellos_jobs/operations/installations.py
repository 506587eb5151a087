"""What an operator confirms about a database at a new place: it is a copy, or it has moved."""

from __future__ import annotations

import uuid

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import broker, installation
from ..database import default_database, migrated_databases
from ..enqueueing import dependencies
from ..errors import InvalidOperation
from ..models import (
    Batch,
    BulkOperation,
    Installation,
    JobRecord,
    LedgerCursor,
    NoticeWindow,
    Replacement,
    Schedule,
    UniqueClaim,
)
from ..states import OPEN_STATES, AuditAction, BatchState, JobState
from .audit import Actor

COPIED = "the database was copied to another installation"
"""The ``error`` of the jobs that were open."""


def findings() -> list[installation.Finding]:
    """Return what each database and each Redis are to each other."""
    return [
        installation.look(database, source)
        for database in migrated_databases()
        for source in broker.sources()
    ]


def confirm_move(*, take_over: bool = False) -> None:
    """Note that the installation has moved here, or has been renamed; its jobs and schedules go on.

    With ``take_over`` also a Redis that belongs to another installation is taken.

    Raises:
        InvalidOperation: a Redis belongs to another installation; nothing is changed.
    """
    identity = installation.installation_id(default_database())
    _require_free(identity, take_over=take_over)
    for database in migrated_databases():
        _settle(database, identity, keep=True)
        _record(database, identity, "moved")
    _take(identity)


def confirm_copy(*, take_over: bool = False) -> dict[str, int]:
    """Make the copy an installation of its own; return how many jobs and schedules were stopped.

    Its open jobs are canceled and its schedules disabled.

    Raises:
        InvalidOperation: no database is a copy, or a Redis is that of the original or belongs to
            another installation; nothing is changed.
    """
    copies = [finding for finding in findings() if finding.verdict is installation.Verdict.COPY]
    if not copies:
        raise InvalidOperation(
            _("No database here is a copy: each is known at this place, or new. Nothing is changed")
        )
    for finding in copies:
        if finding.in_redis.identity == finding.in_database.identity:
            text = _(
                "The Redis of queue %(source)s is in use by the original (%(identity)s): "
                "use another Redis for the copy"
            )
            raise InvalidOperation(
                text % {"source": finding.source, "identity": finding.in_redis.identity}
            )
    identity = uuid.uuid4().hex
    _require_free(identity, take_over=take_over)

    stopped = {"jobs": 0, "schedules": 0}
    for database in migrated_databases():
        with transaction.atomic(using=database):
            for kind, count in _stop_everything(database).items():
                stopped[kind] += count
            _settle(database, identity, keep=False)
            _record(database, identity, "copied")
    _take(identity)
    return stopped


def _require_free(identity: str, *, take_over: bool) -> None:
    """Check that each Redis is unclaimed, was claimed at this place, or may be taken."""
    for source in broker.sources():
        known = installation.known_to_redis(source)
        is_ours = known.identity in ("", identity) or installation.home(source) in known.homes
        if not is_ours and not take_over:
            text = _(
                "The Redis of queue %(source)s belongs to another installation (%(identity)s): use "
                "another Redis, or empty it; --take-over takes it as it is, with its jobs"
            )
            raise InvalidOperation(text % {"source": source, "identity": known.identity})


def _settle(database: str, identity: str, *, keep: bool) -> None:
    """Store the identity and this place in a database."""
    rows = Installation.objects.using(database)
    homes = list(rows.values_list("homes", flat=True).first() or []) if keep else []
    rows.all().delete()
    here = [installation.home(source) for source in broker.sources()]
    installation.remember(database, identity, [*homes, *here])


def _take(identity: str) -> None:
    for source in broker.sources():
        installation.take(source, identity, installation.home(source))


def _record(database: str, identity: str, how: str) -> None:
    homes = list(installation.known_to_database(database).homes)
    actor = Actor(None, "", "")
    actor.record(database, AuditAction.CHANGED, "installation", identity, how=how, homes=homes)


def _stop_everything(database: str) -> dict[str, int]:
    """End open jobs, batches and bulk operations, disable schedules, forget what Redis said."""
    now = timezone.now()
    jobs = JobRecord.objects.using(database).filter(state__in=OPEN_STATES)
    stopped = jobs.update(state=JobState.CANCELED, error=COPIED, finished_at=now)

    for batch in Batch.objects.using(database).exclude(state=BatchState.DONE):
        counts = dependencies.count_jobs(batch.pk, database)
        Batch.objects.using(database).filter(pk=batch.pk).update(
            state=BatchState.DONE, finished_at=now, **counts
        )
    unfinished = BulkOperation.objects.using(database).filter(finished_at=None)
    unfinished.update(finished_at=now, stopped_by="copy")

    schedules = Schedule._base_manager.using(database).filter(enabled=True)
    disabled = schedules.update(enabled=False, next_run_at=None, planned_for="")

    for left_over in (UniqueClaim, Replacement, LedgerCursor):
        left_over._default_manager.using(database).all().delete()
    NoticeWindow.objects.using(database).update(pending=0, sending=0, digest=None)
    return {"jobs": stopped, "schedules": disabled}
