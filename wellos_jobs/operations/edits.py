"""Operator actions that change a job's data: enqueue an edited copy, replay with edited data.

Each writes an ``AuditEntry`` in the same transaction. The caller checks permissions.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from .. import payload
from ..database import database_of, newest
from ..definitions import registry
from ..definitions.definition import JobDefinition
from ..enqueueing.enqueue import JobOptions, build
from ..enqueueing.handle import JobHandle
from ..enqueueing.insertion import insert
from ..errors import InvalidOperation, PayloadError
from ..models import DeadLetter, JobRecord, versions
from ..payload.redaction import MASK
from ..states import AuditAction, DeadLetterStatus, JobState
from .audit import Actor
from .replay import revive


def editable(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored data for an edit form: sensitive values as ``MASK``."""
    return {name: MASK if payload.is_sealed(value) else value for name, value in data.items()}


def changed_names(stored: Mapping[str, Any], edited: Mapping[str, Any]) -> list[str]:
    """Return the names of the arguments that an edit adds, changes or removes.

    Values that are still ``MASK`` are unchanged.
    """
    before = editable(stored)
    names = [
        name
        for name, value in edited.items()
        if name not in before or not same_json(before[name], value)
    ]
    return sorted([*names, *(name for name in before if name not in edited)])


def same_json(one: Any, other: Any) -> bool:
    """Return whether two values are the same as JSON, where 1, 1.0 and true differ."""
    texts = [json.dumps(value, sort_keys=True, default=str) for value in (one, other)]
    return texts[0] == texts[1]


def merged(
    stored: Mapping[str, Any], edited: Mapping[str, Any], sensitive: Collection[str]
) -> dict[str, Any]:
    """Return the data after an edit, in stored form; values that are still ``MASK`` are kept.

    Raises:
        PayloadError: a typed value contains an encrypted one, or is ``MASK`` where nothing is
            stored.
    """
    if not isinstance(edited, Mapping):
        raise PayloadError(_("Give the job's arguments as a JSON object"))

    kept = {
        name: stored[name]
        for name, value in edited.items()
        if value == MASK and payload.is_sealed(stored.get(name))
    }
    typed = {name: value for name, value in edited.items() if name not in kept}
    payload.check_typed(typed)

    for name, value in typed.items():
        if value == MASK and name in sensitive:
            raise PayloadError(
                _("%(name)s: there is no stored value to keep; enter one") % {"name": name}
            )
    return {**edited, **kept}


def new_arguments(
    definition: JobDefinition, stored: Mapping[str, Any], edited: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the job's arguments after an edit; sensitive ones that are kept stay encrypted.

    Raises:
        TypeError: they do not fit the job's signature.
        PayloadError: they cannot be serialized, are too large, or contain an encrypted value that
            was typed.
    """
    data = merged(stored, edited, definition.sensitive)
    arguments = definition.bind((), payload.decode(data, keep_sealed=True))
    payload.encode(arguments, sensitive=definition.sensitive)
    return arguments


def definition_of(job: JobRecord) -> JobDefinition:
    """Return the declaration that a job's data are checked against.

    Raises:
        InvalidOperation: plain RQ code enqueued the job, or its name is not declared in this
            process.
    """
    if job.is_foreign:
        raise InvalidOperation(
            _("%(job)s was enqueued by plain RQ code: its data cannot be checked") % {"job": job}
        )
    found = registry.find(job.name)
    if found is None:
        raise InvalidOperation(
            _("No job %(name)s is declared in this process, so its data cannot be checked")
            % {"name": job.name}
        )
    return found


def current_data(job: JobRecord) -> Mapping[str, Any]:
    """Return the data of a job as the one that is declared now takes them, in stored form.

    Raises:
        PayloadError: the data are of a later version, or cannot be upgraded.
        EncryptionError: a sensitive value cannot be read for an upgrade.
    """
    definition = None if job.is_foreign else registry.find(job.name)
    return versions.current_data(definition, job.data, job.version)


def enqueue_copy(
    job: JobRecord,
    data: Mapping[str, Any] | None = None,
    options: JobOptions | None = None,
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
) -> JobHandle:
    """Enqueue a new job of the same name, with edited data and other options.

    ``data`` is in stored form; None: the same data. The copy does not belong to the job's flow,
    batch or schedule. When a unique key is taken, the handle is that of its holder, with
    ``duplicate`` true, and no audit entry is written.

    Raises:
        InvalidOperation: plain RQ code enqueued the job, or its name is not declared here.
        TypeError, PayloadError, EncryptionError, BadOption, UnknownQueue: as ``enqueue``.
    """
    job = newest(job)
    definition = definition_of(job)
    stored = current_data(job)
    edited = editable(stored) if data is None else data
    arguments = new_arguments(definition, stored, edited)
    using = database_of(job)
    chosen = dataclasses.replace(
        options or JobOptions(queue=job.queue),
        database=using,
        requested_by=by,
        max_attempts=job.max_attempts,
        timeout=job.timeout,
    )

    with transaction.atomic(using=using):
        handle = insert([build(job.name, arguments, chosen, definition)])[0]
        if not handle.duplicate:
            changed = changed_names(stored, edited)
            detail = {"name": job.name, "copy_of": str(job.pk), "changed": changed}
            Actor(by, reason, address).record(
                using, AuditAction.ENQUEUED, "job", handle.id, **detail
            )
    return handle


def replay_edited(
    dead_letter: DeadLetter,
    data: Mapping[str, Any],
    *,
    by: Any = None,
    reason: str = "",
    address: str = "",
) -> JobRecord:
    """Replay an open dead letter with other data; the dead letter keeps the data that failed.

    Raises:
        InvalidOperation: the dead letter is not open, plain RQ code enqueued the job, or its name
            is not declared here.
        TypeError, PayloadError, EncryptionError: the data are invalid; nothing is changed.
    """
    using = database_of(dead_letter)
    actor = Actor(by, reason, address)
    with transaction.atomic(using=using):
        rows = DeadLetter.objects.using(using).filter(
            pk=dead_letter.pk, status=DeadLetterStatus.OPEN
        )
        held = rows.select_for_update().first()
        if held is None:
            raise InvalidOperation(
                _("Dead letter %(letter)s is no longer open") % {"letter": dead_letter.pk}
            )

        job = JobRecord.objects.using(using).select_for_update().get(pk=held.job_id)
        fresh = _rebuilt(job, data)
        rows.update(former_data=job.data)
        JobRecord.objects.using(using).filter(pk=job.pk, state=JobState.FAILED).update(
            data=fresh.data, version=fresh.version, context=job.context | fresh.context
        )

        changed = changed_names(current_data(job), data)
        actor.record(
            using, AuditAction.EDITED, "dead_letter", held.pk, name=job.name, changed=changed
        )
        rows_of_job = JobRecord.objects.filter(pk=job.pk)
        revived = revive(rows_of_job, using, actor, AuditAction.REPLAYED)
        if not revived:
            raise InvalidOperation(_("%(job)s is no longer failed") % {"job": job})
    return revived[0]


def _rebuilt(job: JobRecord, edited: Mapping[str, Any]) -> JobRecord:
    """Return an unsaved row with the edited data and the limit keys computed from them."""
    definition = definition_of(job)
    arguments = new_arguments(definition, current_data(job), edited)
    options = JobOptions(
        queue=job.queue, organization=job.organization_id, database=database_of(job)
    )
    return build(job.name, arguments, options, definition)
