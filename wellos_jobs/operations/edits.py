"""Acts of a person that change what a job is run with: a copy with other data, a replay with other data, an assignment.

Each leaves an ``AuditEntry`` in the same transaction. Whether the person may do it is checked by
the caller.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils.translation import gettext as _

from .. import payload
from ..definitions import registry
from ..definitions.definition import JobDefinition
from ..enqueueing.enqueue import JobOptions, build
from ..enqueueing.handle import JobHandle
from ..enqueueing.insertion import insert
from ..errors import InvalidOperation, PayloadError
from ..models import AuditEntry, DeadLetter, JobRecord
from ..payload.redaction import MASK
from ..payload.tags import ENCRYPTED
from ..states import DeadLetterStatus, JobState
from .audit import Act, Report, chunks, database_of
from .replay import revive


def editable(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored data as a person may edit them: as they are, sensitive values as ``MASK``."""
    return {name: MASK if _is_sealed(value) else value for name, value in data.items()}


def changed_names(stored: Mapping[str, Any], edited: Mapping[str, Any]) -> list[str]:
    """Return the names of the arguments that an edit sets, changes or takes away. What still is ``MASK`` is kept."""
    before = editable(stored)
    names = [name for name, value in edited.items() if name not in before or before[name] != value]
    return sorted([*names, *(name for name in before if name not in edited)])


def plain_data(
    definition: JobDefinition, stored: Mapping[str, Any], edited: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments that an edit of stored data means: sensitive ones that still are ``MASK`` are kept.

    Raises:
        TypeError: they do not fit the job's signature.
        PayloadError: they cannot be carried or are too large.
        EncryptionError: what is kept of the stored ones does not fit the configured keys.
    """
    if not isinstance(edited, Mapping):
        raise PayloadError(_("Give the job's arguments as a JSON object"))
    for name, value in edited.items():
        if value == MASK and not _is_sealed(stored.get(name)) and name in definition.sensitive:
            raise PayloadError(
                _("%(name)s: nothing is stored that could be kept; give its value") % {"name": name}
            )
    kept = {
        name: stored[name]
        for name, value in edited.items()
        if value == MASK and _is_sealed(stored.get(name))
    }
    plain = definition.bind((), payload.decode({**edited, **kept}))
    payload.encode(plain, sensitive=definition.sensitive)
    return plain


def definition_of(job: JobRecord) -> JobDefinition:
    """Return the declaration by which a job's data are checked.

    Raises:
        InvalidOperation: the job was enqueued by plain RQ code, or this process knows no job of its
            name.
    """
    if job.is_foreign:
        raise InvalidOperation(
            _("%(job)s was enqueued by plain RQ code: its data cannot be checked") % {"job": job}
        )
    found = registry.find(job.name)
    if found is None:
        raise InvalidOperation(
            _("No job is declared here as %(name)s, so its data cannot be checked")
            % {"name": job.name}
        )
    return found


def enqueue_copy(
    job: JobRecord,
    data: Mapping[str, Any] | None = None,
    options: JobOptions | None = None,
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
) -> JobHandle:
    """Enqueue a new job of the same name, with edited data (in their stored form; None: the same) and other options.

    It is no part of the job's flow, batch or schedule. Where a unique key leads to another job, the
    handle is that job's, with ``duplicate`` true, and nothing is noted.

    Raises:
        InvalidOperation: the job is foreign or unknown here.
        TypeError, PayloadError, EncryptionError, BadOption, UnknownQueue: as ``enqueue``.
    """
    edited = editable(job.data) if data is None else data
    definition = definition_of(job)
    plain = plain_data(definition, job.data, edited)
    using = database_of(job)
    chosen = dataclasses.replace(
        options or JobOptions(queue=job.queue),
        database=using,
        requested_by=by,
        max_attempts=job.max_attempts,
        timeout=job.timeout,
    )
    with transaction.atomic(using=using):
        handle = insert([build(job.name, plain, chosen, definition)])[0]
        if not handle.duplicate:
            changed = changed_names(job.data, edited)
            detail = {"name": job.name, "copy_of": str(job.pk), "changed": changed}
            Act(by, reason, address).entry("enqueued", "job", handle.id, **detail).save(using=using)
    return handle


def replay_edited(
    letter: DeadLetter,
    data: Mapping[str, Any],
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
) -> JobRecord:
    """Replay an open dead letter with other data; the letter keeps those it failed with.

    Raises:
        InvalidOperation: the letter is not open, or the job is foreign or unknown here.
        TypeError, PayloadError, EncryptionError: the data do not fit; nothing is changed.
    """
    using = database_of(letter)
    act = Act(by, reason, address)
    with transaction.atomic(using=using):
        rows = DeadLetter.objects.using(using).filter(pk=letter.pk, status=DeadLetterStatus.OPEN)
        held = rows.select_for_update().first()
        if held is None:
            raise InvalidOperation(
                _("Dead letter %(letter)s is no longer open") % {"letter": letter.pk}
            )
        job = JobRecord.objects.using(using).select_for_update().get(pk=held.job_id)
        fresh = _rebuilt(job, data)
        rows.update(former_data=job.data)
        JobRecord.objects.using(using).filter(pk=job.pk, state=JobState.FAILED).update(
            data=fresh.data, context=job.context | fresh.context
        )
        act.entry(
            "edited", "dead_letter", held.pk, name=job.name, changed=changed_names(job.data, data)
        ).save(using=using)
        revived = revive(JobRecord.objects.filter(pk=job.pk), using, act, "replayed")
        if not revived:
            raise InvalidOperation(_("%(job)s is no longer failed") % {"job": job})
    return revived[0]


def assign(
    letters: Iterable[DeadLetter],
    to: Any,
    note: str = "",
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
) -> int:
    """Give open dead letters to a person (None: to nobody), with a note; return how many there were."""
    act, count = Act(by, reason, address), 0
    name, pk = (to.get_username(), to.pk) if to is not None else ("", None)
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
                act.entry("assigned", "dead_letter", key, to=name, note=note) for key in found
            )
            count += len(found)
    return count


def assign_many(letters: Iterable[DeadLetter], person: Any, note: str = "", **act: Any) -> Report:
    """Give all of ``letters`` that are open to the person with this primary key (None: to nobody), with a note."""
    report, to = Report(), None
    if person is not None:
        to = get_user_model()._default_manager.filter(pk=person, is_active=True).first()
        if to is None:
            report.refused.append(
                _("The person to whom they are given is gone, or may not log in any more")
            )
            return report
    for using, chunk in chunks(letters):
        rows = DeadLetter.objects.using(using).filter(pk__in=chunk)
        closed = rows.exclude(status=DeadLetterStatus.OPEN).values_list("pk", flat=True)
        report.refused += [
            _("Dead letter %(letter)s is no longer open") % {"letter": pk} for pk in closed
        ]
        report.done += assign(rows, to, note, **act)
    return report


def _rebuilt(job: JobRecord, edited: Mapping[str, Any]) -> JobRecord:
    """Return an unsaved row with the edited data, and with the keys of the limits that follow from them."""
    definition = definition_of(job)
    plain = plain_data(definition, job.data, edited)
    options = JobOptions(
        queue=job.queue, organization=job.organization_id, database=database_of(job)
    )
    return build(job.name, plain, options, definition)


def _is_sealed(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {ENCRYPTED}
