"""Operator actions: actor, reason, audit entry, error translation, bulk iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import broker
from ..database import database_for_new, database_of, in_write_database, newest
from ..enqueueing.chunks import in_chunks
from ..enqueueing.handle import JobHandle
from ..errors import InvalidOperation, JobNotFound, RedisUnavailable
from ..models import AuditEntry, JobRecord
from ..payload.values import storable
from .texts import cleaned

Answer = TypeVar("Answer")
CHUNK = 200
"""How many rows one transaction of a bulk operation takes."""


@dataclass(frozen=True)
class Actor:
    """Who performs an operation, why, and from which address."""

    by: Any
    """A user, or None for a script."""
    reason: str
    address: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", cleaned(self.reason))
        object.__setattr__(self, "address", cleaned(self.address, 64))

    @property
    def name(self) -> str:
        """The username, as the audit log stores it; '' for a script."""
        is_known = self.by is not None and self.by.pk is not None
        return cleaned(self.by.get_username(), 150) if is_known else ""

    def entry(self, action: str, target_type: str, target: object, **detail: Any) -> AuditEntry:
        """Build the unsaved audit entry for one target."""
        return AuditEntry(
            at=timezone.now(),
            action=str(action),
            actor_id=None if self.by is None else self.by.pk,
            actor_name=self.name,
            address=self.address,
            target_type=target_type,
            target_id=cleaned(str(target), 180),
            reason=self.reason,
            detail=storable(detail),
        )

    def record(
        self, using: str, action: str, target_type: str, target: object, **detail: Any
    ) -> None:
        """Store the audit entry for one target."""
        self.entry(action, target_type, target, **detail).save(force_insert=True, using=using)


@dataclass
class BulkResult:
    """Outcome of an operation on many rows: the number done, and a sentence for each refusal."""

    done: int = 0
    refused: list[str] = field(default_factory=list)
    untried: list[Any] = field(default_factory=list)
    """Primary keys of the rows that were skipped because Redis is unavailable."""

    @property
    def messages(self) -> list[str]:
        """What to show the operator about the rows that were not done."""
        if not self.untried:
            return self.refused

        n = len(self.untried)
        unavailable = ngettext(
            "Redis is unavailable: %(n)d was not tried",
            "Redis is unavailable: %(n)d were not tried",
            n,
        )
        return [*self.refused, unavailable % {"n": n}]


def record_of(job: JobRecord | JobHandle) -> JobRecord:
    """Return the row of a job, given as a row or as a handle, from where jobs are written.

    Raises:
        JobNotFound: the job is not (or no longer) in the database.
        InvalidOperation: the row was read from a database that holds no jobs.
    """
    if isinstance(job, JobHandle):
        return job.record()
    try:
        return newest(job)
    except JobRecord.DoesNotExist:
        raise JobNotFound(
            f"There is no job {job.pk} in the database {database_of(job)!r}"
        ) from None


def audit_database() -> str:
    """Return the alias of the database of audit entries for targets without a row."""
    return database_for_new()


def with_redis(step: Callable[[], Answer]) -> Answer:
    """Run ``step``, with errors of Redis as RedisUnavailable."""
    try:
        return step()
    except broker.Unavailable as error:
        text = _("Redis is unavailable, so nothing was changed: %(error)s")
        raise RedisUnavailable(text % {"error": error}) from error
    except broker.Error as error:  # for example a job's key that does not hold a hash
        raise RedisUnavailable(_("Redis refused: %(error)s") % {"error": error}) from error


# --- many rows ------------------------------------------------------------------------------------


def one_by_one(step: Callable[..., Any], jobs: Iterable[JobRecord], **actor: Any) -> BulkResult:
    """Apply ``step`` to each job, oldest first. It stops when Redis is unavailable."""
    result = BulkResult()
    for using, chunk in chunks(jobs):
        rows = JobRecord.objects.using(using).filter(pk__in=chunk).order_by("pk")
        try_each(result, rows, partial(step, **actor))
    return result


def try_each(result: BulkResult, rows: Iterable[Any], step: Callable[[Any], Any]) -> None:
    """Apply ``step`` to each row and count the outcome; skip the rest once Redis is unavailable."""
    for row in rows:
        if result.untried:
            result.untried.append(row.pk)
            continue

        try:
            step(row)
        except InvalidOperation as error:
            result.refused.append(str(error))
        except RedisUnavailable as error:
            if isinstance(error.__cause__, broker.Unavailable):
                result.untried.append(row.pk)
            else:
                result.refused.append(str(error))
        else:
            result.done += 1


def chunks(rows: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield (database, at most CHUNK primary keys), oldest first."""
    by_database: dict[str, list[Any]] = {}
    if isinstance(rows, models.QuerySet):
        here = in_write_database(rows)
        by_database[here.db] = list(here.order_by("pk").values_list("pk", flat=True))
    else:
        for row in rows:
            by_database.setdefault(database_of(row), []).append(row.pk)

    for using, keys in by_database.items():
        for chunk in in_chunks(keys, CHUNK):
            yield using, chunk
