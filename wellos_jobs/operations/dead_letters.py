"""Operator actions on dead letters: replay, discard, assign, send a canary.

They follow the conventions of ``jobs``: ``by``, ``reason`` and ``address``, an audit entry in the
same transaction, InvalidOperation for one, a BulkResult for many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models, transaction
from django.utils.translation import gettext as _

from ..database import database_of, in_write_database
from ..errors import InvalidOperation
from ..models import AuditEntry, DeadLetter, JobRecord
from ..states import AuditAction, DeadLetterStatus
from .audit import Actor, BulkResult, chunks
from .replay import close, revive, why_not_retried
from .texts import cleaned

# --- one dead letter ------------------------------------------------------------------------------


def replay(
    dead_letter: DeadLetter, *, by: Any = None, reason: str = "", address: str = ""
) -> JobRecord:
    """Send the job of an open dead letter back to its queue with fresh attempts.

    The job keeps its history.

    Raises:
        InvalidOperation: the dead letter is not open, or plain RQ code enqueued the job.
    """
    using = database_of(dead_letter)
    actor = Actor(by, reason, address)
    revived = revive(_jobs_of([dead_letter.pk]), using, actor, AuditAction.REPLAYED)
    if not revived:
        raise InvalidOperation(_why_not_closed(_reread(dead_letter, using)))
    return revived[0]


def discard(
    dead_letter: DeadLetter, *, by: Any = None, reason: str = "", address: str = ""
) -> None:
    """Close an open dead letter; its job stays failed.

    Raises:
        InvalidOperation: the dead letter is not open.
    """
    using = database_of(dead_letter)
    if not _discard([dead_letter.pk], using, Actor(by, reason, address)):
        raise InvalidOperation(_why_not_closed(_reread(dead_letter, using)))


def send_canary(
    dead_letters: models.QuerySet[DeadLetter],
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
) -> JobRecord:
    """Replay the newest open dead letter of ``dead_letters``, to see whether the fault is fixed.

    The audit log remembers which one it was.

    Raises:
        InvalidOperation: none is open, or plain RQ code enqueued the job.
    """
    still_open = in_write_database(dead_letters).filter(status=DeadLetterStatus.OPEN)
    newest = still_open.order_by("-created_at", "-pk").first()
    if newest is None:
        raise InvalidOperation(_("None of these dead letters is open"))

    using = database_of(newest)
    actor = Actor(by, reason, address)
    with transaction.atomic(using=using):
        job = replay(newest, by=by, reason=reason, address=address)
        detail = {"job": str(job.pk), "letter": newest.pk, "name": job.name}
        actor.record(using, AuditAction.SENT_CANARY, "fault", newest.fingerprint, **detail)
    return job


# --- many dead letters ----------------------------------------------------------------------------


def replay_many(
    dead_letters: Iterable[DeadLetter], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Replay all of ``dead_letters`` that are open."""
    actor = Actor(by, reason, address)
    result = BulkResult()
    for using, chunk in chunks(dead_letters):
        revived = revive(_jobs_of(chunk), using, actor, AuditAction.REPLAYED)
        result.done += len(revived)

        left = DeadLetter.objects.using(using).filter(pk__in=chunk)
        left = left.exclude(job_id__in={record.pk for record in revived})
        result.refused += [
            _why_not_closed(dead_letter) for dead_letter in left.select_related("job")
        ]
    return result


def discard_many(
    dead_letters: Iterable[DeadLetter], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Discard all of ``dead_letters`` that are open."""
    actor = Actor(by, reason, address)
    result = BulkResult()
    for using, chunk in chunks(dead_letters):
        closed = set(_discard(chunk, using, actor))
        result.done += len(closed)

        left = DeadLetter.objects.using(using).filter(pk__in=set(chunk) - closed)
        result.refused += [
            _why_not_closed(dead_letter) for dead_letter in left.select_related("job")
        ]
    return result


def assign(
    dead_letters: Iterable[DeadLetter],
    to: Any,
    note: str = "",
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
    only_changes: bool = False,
) -> int:
    """Assign open dead letters to a user (None: unassign), with a note; return how many.

    With ``only_changes`` those that have this assignee and note already do not count.
    """
    actor, note = Actor(by, reason, address), cleaned(note)
    name, pk = ("", None) if to is None else (to.get_username(), to.pk)

    count = 0
    for using, chosen in chunks(dead_letters):
        with transaction.atomic(using=using):
            rows = DeadLetter.objects.using(using).filter(
                pk__in=chosen, status=DeadLetterStatus.OPEN
            )
            found = [
                letter.pk
                for letter in rows.order_by("pk").select_for_update()
                if not only_changes or (letter.assigned_to_id, letter.note) != (pk, note)
            ]
            DeadLetter.objects.using(using).filter(pk__in=found).update(
                assigned_to_id=pk, note=note
            )
            AuditEntry.objects.using(using).bulk_create(
                actor.entry(AuditAction.ASSIGNED, "dead_letter", key, to=name, note=note)
                for key in found
            )
            count += len(found)
    return count


def assign_many(
    dead_letters: Iterable[DeadLetter], person: Any, note: str = "", **actor: Any
) -> BulkResult:
    """Assign all of ``dead_letters`` that are open to the user with this primary key.

    None unassigns them.
    """
    result = BulkResult()
    to = None
    if person is not None:
        to = get_user_model()._default_manager.filter(pk=person, is_active=True).first()
        if to is None:
            result.refused.append(_("The assignee no longer exists, or may not log in"))
            return result

    for using, chunk in chunks(dead_letters):
        rows = DeadLetter.objects.using(using).filter(pk__in=chunk)
        closed = rows.exclude(status=DeadLetterStatus.OPEN).values_list("pk", flat=True)
        result.refused += [
            _("Dead letter %(letter)s is no longer open") % {"letter": pk} for pk in closed
        ]
        result.refused += [
            _("Dead letter %(letter)s has this assignee and note already") % {"letter": pk}
            for pk in rows.filter(
                status=DeadLetterStatus.OPEN, assigned_to_id=person, note=cleaned(note)
            ).values_list("pk", flat=True)
        ]
        result.done += assign(rows, to, note, only_changes=True, **actor)
    return result


# --- steps ----------------------------------------------------------------------------------------


def _discard(dead_letters: Collection[int], using: str, actor: Actor) -> list[int]:
    with transaction.atomic(using=using):
        rows = DeadLetter.objects.using(using).filter(
            pk__in=dead_letters, status=DeadLetterStatus.OPEN
        )
        found = list(rows.order_by("pk").select_for_update())

        locked = rows.filter(pk__in=[dead_letter.pk for dead_letter in found])
        if close(locked, DeadLetterStatus.DISCARDED, actor) != len(found):
            raise InvalidOperation(
                _("Another operator closed some of these dead letters; nothing was changed")
            )

        AuditEntry.objects.using(using).bulk_create(
            actor.entry(
                AuditAction.DISCARDED, "dead_letter", dead_letter.pk, job=str(dead_letter.job_id)
            )
            for dead_letter in found
        )
    return [dead_letter.pk for dead_letter in found]


def _jobs_of(dead_letters: Collection[int]) -> models.QuerySet[JobRecord]:
    return JobRecord.objects.filter(
        dead_letters__pk__in=dead_letters, dead_letters__status=DeadLetterStatus.OPEN
    )


def _reread(dead_letter: DeadLetter, using: str) -> DeadLetter:
    return DeadLetter.objects.using(using).get(pk=dead_letter.pk)


def _why_not_closed(dead_letter: DeadLetter) -> str:
    if dead_letter.status != DeadLetterStatus.OPEN:
        return _("Dead letter %(letter)s is %(status)s already") % {
            "letter": dead_letter.pk,
            "status": dead_letter.get_status_display(),
        }
    return why_not_retried(dead_letter.job)
