"""Unique keys: reserve one for a new job in the caller's transaction, or find its holder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from .. import conf, payload
from ..database import current, first_current
from ..definitions import registry
from ..definitions.limits import Key, fields_of
from ..definitions.unique import Unique
from ..errors import TransactionConflict
from ..states import JobState
from .handle import JobHandle

if TYPE_CHECKING:
    from ..models import JobRecord, UniqueClaim

TRIES = 5


def key_of(unique: Unique, name: str, data: Mapping[str, Any], organization: str) -> str:
    """Return the unique key of a job with this data.

    What is ``Sealed`` is decrypted if the key depends on it.

    Raises:
        EncryptionError: none of the configured keys decrypts it.
    """
    if unique.key is None or reads_sealed(unique.key, data):
        data = payload.unseal(data)
    plain = payload.canonical(data) if unique.key is None else ""
    return unique.digest(str(conf.django_setting("SECRET_KEY")), name, data, organization, plain)


def reads_sealed(key: Key, data: Mapping[str, Any]) -> bool:
    """Return whether a key is made from arguments that are ``Sealed``."""
    sealed = {name for name, value in data.items() if type(value) is payload.Sealed}
    return bool(sealed) and (callable(key) or not sealed.isdisjoint(fields_of(key)))


def reservation_of(record: JobRecord) -> UniqueClaim | None:
    """Return the reservation of a job's unique key, whichever job holds it.

    None if the job has no key, the key is free, or the job's data have another version: the key is
    made from fields of the declared one.

    Raises:
        EncryptionError, PayloadError: the job's data, which the key is made from, is unreadable.
    """
    from ..models import UniqueClaim

    definition = registry.find(record.name)
    if definition is None or definition.unique is None or record.is_foreign:
        return None
    if record.version != definition.version and definition.unique.key is not None:
        return None
    data = payload.decode(record.data, keep_sealed=True)
    keyed = data if definition.unique.key is None else {**definition.parameters.defaults, **data}
    key = key_of(definition.unique, record.name, keyed, record.organization_id)
    return UniqueClaim.objects.using(record._state.db).filter(pk=key).first()


def reserve(record: JobRecord, key: str, unique: Unique, database: str) -> JobRecord | None:
    """Reserve the key for a job about to be inserted; if another job holds it, return that one.

    Call it inside the transaction of the job's INSERT. If another transaction is taking the key,
    this one waits until it ends.

    Raises:
        TransactionConflict: another one has taken it, and this one cannot see it.
    """
    from ..models import UniqueClaim

    expires = None if unique.seconds is None else timezone.now() + timedelta(seconds=unique.seconds)
    claims = UniqueClaim.objects.using(database)
    for attempt in range(TRIES):
        # Read, then write: on MariaDB an INSERT of an existing key leaves a shared lock, and two
        # transactions that then take the key over would wait for each other.
        rows = claims.filter(pk=key)
        held = next(iter(current(rows)), None) if attempt else rows.first()
        if held is None:
            try:
                with transaction.atomic(using=database):
                    claims.create(key=key, job=record.pk, expires=expires)
                return None
            except IntegrityError:
                continue  # another transaction has just taken it
        holder = _holder(held, unique, database)
        if holder is not None:
            return holder
        if claims.filter(pk=key, job=held.job).update(job=record.pk, expires=expires):
            return None
    raise TransactionConflict(
        f"the unique key of job {record.name!r} was taken by a transaction that this one cannot "
        "see: run this one again, or use READ COMMITTED"
    )


def _holder(held: UniqueClaim, unique: Unique, database: str) -> JobRecord | None:
    """Return the job that holds a key, or None if the key is free."""
    from ..models import JobRecord

    if held.expires is not None and held.expires <= timezone.now():
        return None
    holder = first_current(JobRecord.objects.using(database).filter(pk=held.job))
    if holder is None:
        return None
    # The row as it was just read: the transaction's snapshot may lack it, and so may Redis, still.
    in_redis = JobHandle(holder.pk, holder.queue, database).state_in_redis()
    state = in_redis or JobState(holder.state)

    if unique.until is None:
        return None if state == JobState.CANCELED else holder
    if unique.until == "done":
        return None if state.is_final else holder
    return holder if state in {JobState.WAITING, JobState.DELAYED, JobState.BLOCKED} else None
