"""Every act of a person on a job or a dead letter: who, why, and an ``AuditEntry`` in the same transaction.

All take ``by`` (a user, or None for a script), ``reason`` and ``address``; a job is given as its
row or its handle. Whether the user may do it is checked by the caller: the admin or a view. The
plain verbs raise ``InvalidOperation`` when the thing's state forbids the act; the ``..._many``
verbs take a queryset or a list, do what can be done, and report the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial
from typing import Any, Literal

from django.db import models, transaction
from django.utils.translation import gettext as _

from ..enqueueing import control
from ..enqueueing.handle import JobHandle
from ..errors import InvalidOperation
from ..models import AuditEntry, DeadLetter, JobRecord
from ..monitoring.faults import CANARY
from ..states import DeadLetterStatus, JobState
from .audit import Act, Report, chunks, database_of, one_by_one, record_of, try_each, with_redis
from .replay import close, revive

# --- one at a time --------------------------------------------------------------------------------


def retry(
    job: JobRecord | JobHandle, *, by: Any = None, reason: str = "", address: str = ""
) -> JobRecord:
    """Run a job again: a failed one from the start (its open dead letter is replayed), a delayed one now.

    Raises:
        InvalidOperation: the job is in another state, or plain RQ code made it.
        RedisUnavailable: the job is delayed, and Redis is away or refuses.
    """
    given = record_of(job)
    using = database_of(given)
    record = JobRecord.objects.using(using).get(pk=given.pk)
    act = Act(by, reason, address)
    if record.state == JobState.DELAYED:
        _promote(record, using, act)
    elif not revive(JobRecord.objects.filter(pk=record.pk), using, act, "retried"):
        raise InvalidOperation(_why_not_retried(record))
    return JobRecord.objects.using(using).get(pk=given.pk)


def replay(letter: DeadLetter, *, by: Any = None, reason: str = "", address: str = "") -> JobRecord:
    """Send the job of an open dead letter back to its queue with fresh attempts; its history stays.

    Raises:
        InvalidOperation: the letter is not open, or plain RQ code made the job.
    """
    using = database_of(letter)
    revived = revive(_jobs_of([letter.pk]), using, Act(by, reason, address), "replayed")
    if not revived:
        raise InvalidOperation(_why_not_replayed(DeadLetter.objects.using(using).get(pk=letter.pk)))
    return revived[0]


def discard(letter: DeadLetter, *, by: Any = None, reason: str = "", address: str = "") -> None:
    """Close an open dead letter; its job stays failed.

    Raises:
        InvalidOperation: the letter is not open.
    """
    using = database_of(letter)
    if not _discard([letter.pk], using, Act(by, reason, address)):
        raise InvalidOperation(_why_not_replayed(DeadLetter.objects.using(using).get(pk=letter.pk)))


def send_canary(
    letters: models.QuerySet[DeadLetter], *, by: Any = None, reason: str = "", address: str = ""
) -> JobRecord:
    """Replay the newest of the open ones among ``letters``, ahead of the others; the audit log remembers which it was.

    Raises:
        InvalidOperation: none is open, or plain RQ code made the job.
    """
    newest = letters.filter(status=DeadLetterStatus.OPEN).order_by("-created_at", "-pk").first()
    if newest is None:
        raise InvalidOperation(_("No letter of these is open"))
    using = database_of(newest)
    with transaction.atomic(using=using):
        job = replay(newest, by=by, reason=reason, address=address)
        detail = {"job": str(job.pk), "letter": newest.pk, "name": job.name}
        Act(by, reason, address).entry(CANARY, "fault", newest.fingerprint, **detail).save(
            using=using
        )
    return job


def cancel(
    job: JobRecord | JobHandle, *, by: Any = None, reason: str = "", address: str = ""
) -> Literal["canceled", "stopping"]:
    """Cancel a job. One that runs is stopped by its supervisor: then the answer is "stopping".

    Raises:
        InvalidOperation: the job is final.
        RedisUnavailable: Redis is away or refuses.
    """
    given = record_of(job)
    using = database_of(given)
    with transaction.atomic(using=using):
        record = JobRecord.objects.using(using).get(pk=given.pk)
        if JobState(record.state).is_final:
            raise InvalidOperation(
                _("%(job)s cannot be canceled: it is %(state)s already")
                % {"job": record, "state": record.get_state_display()}
            )
        Act(by, reason, address).entry("canceled", "job", record.pk, name=record.name).save(
            using=using
        )
        answer = with_redis(partial(control.cancel, record))
        if answer == "final":
            raise InvalidOperation(
                _("%(job)s cannot be canceled: it has just ended") % {"job": record}
            )
    return answer


# --- many -----------------------------------------------------------------------------------------


def retry_many(
    jobs: Iterable[JobRecord], *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Retry all of ``jobs`` that can be: failed ones in chunks, delayed ones one by one."""
    act, report = Act(by, reason, address), Report()
    for using, chunk in chunks(jobs):
        revived = {
            record.pk
            for record in revive(JobRecord.objects.filter(pk__in=chunk), using, act, "retried")
        }
        report.done += len(revived)
        left = JobRecord.objects.using(using).filter(pk__in=set(chunk) - revived).order_by("pk")
        try_each(report, left, partial(_promote_delayed, using=using, act=act))
    return report


def cancel_many(
    jobs: Iterable[JobRecord], *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Cancel all of ``jobs`` that are not final."""
    return one_by_one(cancel, jobs, by=by, reason=reason, address=address)


def replay_many(
    letters: Iterable[DeadLetter], *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Replay all of ``letters`` that are open."""
    act, report = Act(by, reason, address), Report()
    for using, chunk in chunks(letters):
        revived = {record.pk for record in revive(_jobs_of(chunk), using, act, "replayed")}
        report.done += len(revived)
        left = DeadLetter.objects.using(using).filter(pk__in=chunk).exclude(job_id__in=revived)
        report.refused += [_why_not_replayed(letter) for letter in left.select_related("job")]
    return report


def discard_many(
    letters: Iterable[DeadLetter], *, by: Any = None, reason: str = "", address: str = ""
) -> Report:
    """Discard all of ``letters`` that are open."""
    act, report = Act(by, reason, address), Report()
    for using, chunk in chunks(letters):
        closed = set(_discard(chunk, using, act))
        report.done += len(closed)
        left = DeadLetter.objects.using(using).filter(pk__in=set(chunk) - closed)
        report.refused += [_why_not_replayed(letter) for letter in left.select_related("job")]
    return report


# --- steps ----------------------------------------------------------------------------------------


def _discard(letters: Collection[int], using: str, act: Act) -> list[int]:
    with transaction.atomic(using=using):
        rows = DeadLetter.objects.using(using).filter(pk__in=letters, status=DeadLetterStatus.OPEN)
        found = list(rows.order_by("pk").select_for_update())
        mine = rows.filter(pk__in=[letter.pk for letter in found])
        if close(mine, DeadLetterStatus.DISCARDED, act) != len(found):
            raise InvalidOperation(
                _("Somebody else closed some of these letters; nothing was changed")
            )
        AuditEntry.objects.using(using).bulk_create(
            act.entry("discarded", "dead_letter", letter.pk, job=str(letter.job_id))
            for letter in found
        )
    return [letter.pk for letter in found]


def _promote(record: JobRecord, using: str, act: Act) -> None:
    if record.is_foreign:
        raise InvalidOperation(_why_not_retried(record))
    with transaction.atomic(using=using):
        act.entry("retried", "job", record.pk, name=record.name, promoted=True).save(using=using)
        if not with_redis(partial(control.promote, record)):
            raise InvalidOperation(
                _("%(job)s cannot be retried: it is no longer delayed") % {"job": record}
            )


def _promote_delayed(record: JobRecord, using: str, act: Act) -> None:
    if record.state != JobState.DELAYED:
        raise InvalidOperation(_why_not_retried(record))
    _promote(record, using, act)


def _jobs_of(letters: Collection[int]) -> models.QuerySet[JobRecord]:
    return JobRecord.objects.filter(
        dead_letters__pk__in=letters, dead_letters__status=DeadLetterStatus.OPEN
    )


def _why_not_retried(record: JobRecord) -> str:
    if record.is_foreign:
        return _(
            "%(job)s was enqueued by plain RQ code: requeue it with `rq requeue` or on django-rq's pages"
        ) % {"job": record}
    return _("%(job)s cannot be retried: it is %(state)s, and only failed and delayed jobs can") % {
        "job": record,
        "state": record.get_state_display(),
    }


def _why_not_replayed(letter: DeadLetter) -> str:
    if letter.status != DeadLetterStatus.OPEN:
        return _("Dead letter %(letter)s is %(status)s already") % {
            "letter": letter.pk,
            "status": letter.get_status_display(),
        }
    return _why_not_retried(letter.job)
