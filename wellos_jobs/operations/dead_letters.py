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

from ..errors import InvalidOperation
from ..models import AuditEntry, DeadLetter, JobRecord
from ..states import AuditAction, DeadLetterStatus
from .audit import Actor, BulkResult, chunks, database_of
from .replay import close, revive, why_not_retried

# --- one dead letter ------------------------------------------------------------------------------


def replay(letter: DeadLetter, *, by: Any = None, reason: str = "", address: str = "") -> JobRecord:
    """Send the job of an open dead letter back to its queue with fresh attempts.

    The job keeps its history.

    Raises:
        InvalidOperation: the dead letter is not open, or plain RQ code enqueued the job.
    """
    using = database_of(letter)
    actor = Actor(by, reason, address)
    revived = revive(_jobs_of([letter.pk]), using, actor, AuditAction.REPLAYED)
    if not revived:
        raise InvalidOperation(_why_not_closed(_reread(letter, using)))
    return revived[0]


def discard(letter: DeadLetter, *, by: Any = None, reason: str = "", address: str = "") -> None:
    """Close an open dead letter; its job stays failed.

    Raises:
        InvalidOperation: the dead letter is not open.
    """
    using = database_of(letter)
    if not _discard([letter.pk], using, Actor(by, reason, address)):
        raise InvalidOperation(_why_not_closed(_reread(letter, using)))


def send_canary(
    letters: models.QuerySet[DeadLetter], *, by: Any = None, reason: str = "", address: str = ""
) -> JobRecord:
    """Replay the newest open dead letter of ``letters``, to see whether the fault is fixed.

    The audit log remembers which one it was.

    Raises:
        InvalidOperation: none is open, or plain RQ code enqueued the job.
    """
    newest = letters.filter(status=DeadLetterStatus.OPEN).order_by("-created_at", "-pk").first()
    if newest is None:
        raise InvalidOperation(_("No letter of these is open"))

    using = database_of(newest)
    actor = Actor(by, reason, address)
    with transaction.atomic(using=using):
        job = replay(newest, by=by, reason=reason, address=address)
        detail = {"job": str(job.pk), "letter": newest.pk, "name": job.name}
        actor.record(using, AuditAction.SENT_CANARY, "fault", newest.fingerprint, **detail)
    return job


# --- many dead letters ----------------------------------------------------------------------------


def replay_many(
    letters: Iterable[DeadLetter], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Replay all of ``letters`` that are open."""
    actor = Actor(by, reason, address)
    result = BulkResult()
    for using, chunk in chunks(letters):
        revived = revive(_jobs_of(chunk), using, actor, AuditAction.REPLAYED)
        result.done += len(revived)

        left = DeadLetter.objects.using(using).filter(pk__in=chunk)
        left = left.exclude(job_id__in={record.pk for record in revived})
        result.refused += [_why_not_closed(letter) for letter in left.select_related("job")]
    return result


def discard_many(
    letters: Iterable[DeadLetter], *, by: Any = None, reason: str = "", address: str = ""
) -> BulkResult:
    """Discard all of ``letters`` that are open."""
    actor = Actor(by, reason, address)
    result = BulkResult()
    for using, chunk in chunks(letters):
        closed = set(_discard(chunk, using, actor))
        result.done += len(closed)

        left = DeadLetter.objects.using(using).filter(pk__in=set(chunk) - closed)
        result.refused += [_why_not_closed(letter) for letter in left.select_related("job")]
    return result


def assign(
    letters: Iterable[DeadLetter],
    to: Any,
    note: str = "",
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
) -> int:
    """Assign open dead letters to a user (None: unassign), with a note; return how many."""
    actor = Actor(by, reason, address)
    name, pk = ("", None) if to is None else (to.get_username(), to.pk)

    count = 0
    for using, chosen in chunks(letters):
        with transaction.atomic(using=using):
            rows = DeadLetter.objects.using(using).filter(
                pk__in=chosen, status=DeadLetterStatus.OPEN
            )
            found = [letter.pk for letter in rows.order_by("pk").select_for_update()]
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
    letters: Iterable[DeadLetter], person: Any, note: str = "", **actor: Any
) -> BulkResult:
    """Assign all of ``letters`` that are open to the user with this primary key.

    None unassigns them.
    """
    result = BulkResult()
    to = None
    if person is not None:
        to = get_user_model()._default_manager.filter(pk=person, is_active=True).first()
        if to is None:
            result.refused.append(
                _("The person to whom they are given is gone, or may not log in any more")
            )
            return result

    for using, chunk in chunks(letters):
        rows = DeadLetter.objects.using(using).filter(pk__in=chunk)
        closed = rows.exclude(status=DeadLetterStatus.OPEN).values_list("pk", flat=True)
        result.refused += [
            _("Dead letter %(letter)s is no longer open") % {"letter": pk} for pk in closed
        ]
        result.done += assign(rows, to, note, **actor)
    return result


# --- steps ----------------------------------------------------------------------------------------


def _discard(letters: Collection[int], using: str, actor: Actor) -> list[int]:
    with transaction.atomic(using=using):
        rows = DeadLetter.objects.using(using).filter(pk__in=letters, status=DeadLetterStatus.OPEN)
        found = list(rows.order_by("pk").select_for_update())

        locked = rows.filter(pk__in=[letter.pk for letter in found])
        if close(locked, DeadLetterStatus.DISCARDED, actor) != len(found):
            raise InvalidOperation(
                _("Somebody else closed some of these letters; nothing was changed")
            )

        AuditEntry.objects.using(using).bulk_create(
            actor.entry(AuditAction.DISCARDED, "dead_letter", letter.pk, job=str(letter.job_id))
            for letter in found
        )
    return [letter.pk for letter in found]


def _jobs_of(letters: Collection[int]) -> models.QuerySet[JobRecord]:
    return JobRecord.objects.filter(
        dead_letters__pk__in=letters, dead_letters__status=DeadLetterStatus.OPEN
    )


def _reread(letter: DeadLetter, using: str) -> DeadLetter:
    return DeadLetter.objects.using(using).get(pk=letter.pk)


def _why_not_closed(letter: DeadLetter) -> str:
    if letter.status != DeadLetterStatus.OPEN:
        return _("Dead letter %(letter)s is %(status)s already") % {
            "letter": letter.pk,
            "status": letter.get_status_display(),
        }
    return why_not_retried(letter.job)
