"""An act of a person: who, why, from where; its audit entry, Redis when it cannot wait, the walk over many rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext as _

from . import redis
from .errors import InvalidOperation, RedisUnavailable
from .handles import JobHandle
from .models import AuditEntry, JobRecord

Answer = TypeVar("Answer")
CHUNK = 200
"""How many jobs one transaction of a bulk operation takes."""


@dataclass(frozen=True)
class Act:
    """Who does something, why, and from where."""

    by: Any
    reason: str
    address: str

    def entry(self, action: str, kind: str, target: object, **detail: Any) -> AuditEntry:
        """Make the unsaved audit entry of this act on one target."""
        known = self.by is not None and self.by.pk is not None
        return AuditEntry(
            at=timezone.now(),
            action=action,
            actor_id=self.by.pk if known else None,
            actor_name=self.by.get_username()[:150] if known else "",
            address=self.address[:64],
            target_type=kind,
            target_id=str(target),
            reason=self.reason,
            detail=detail,
        )


@dataclass
class Report:
    """What a bulk operation did: how many, and for the others a sentence each."""

    done: int = 0
    refused: list[str] = field(default_factory=list)


def record_of(job: JobRecord | JobHandle) -> JobRecord:
    """Return the row of a job that is given as a row or as a handle.

    Raises:
        JobNotFound: the handle's job is not (or no longer) in the database.
    """
    return job.record() if isinstance(job, JobHandle) else job


def with_redis(step: Callable[[], Answer]) -> Answer:
    try:
        return step()
    except redis.Unavailable as error:
        text = _("Redis cannot be reached, so nothing was changed: %(error)s")
        raise RedisUnavailable(text % {"error": error}) from error
    except redis.Error as error:  # as when a job's hash is something else
        raise RedisUnavailable(_("Redis refuses: %(error)s") % {"error": error}) from error


# --- many rows ------------------------------------------------------------------------------------------


def one_by_one(step: Callable[..., Any], jobs: Iterable[JobRecord], **act: Any) -> Report:
    """Do ``step`` to each of many jobs, oldest first, and report how it went. It stops where Redis is away."""
    report = Report()
    for using, chunk in chunks(jobs):
        for record in JobRecord.objects.using(using).filter(pk__in=chunk).order_by("pk"):
            if not count(report, partial(step, record, **act)):
                return report
    return report


def count(report: Report, step: Callable[[], Any]) -> bool:
    """Run one step of a bulk operation and note how it went; tell whether to go on: not while Redis is away."""
    try:
        step()
    except InvalidOperation as error:
        report.refused.append(str(error))
    except RedisUnavailable as error:
        report.refused.append(str(error))
        if isinstance(error.__cause__, redis.Unavailable):
            report.refused.append(_("The other jobs were not tried"))
            return False
    else:
        report.done += 1
    return True


def database_of(row: models.Model) -> str:
    """Return the alias of the database of a row."""
    return row._state.db or router.db_for_write(type(row))


def chunks(rows: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield (database, at most CHUNK primary keys), oldest first."""
    by_database: dict[str, list[Any]] = {}
    if isinstance(rows, models.QuerySet):
        using = rows._db or router.db_for_write(rows.model)  # type: ignore[attr-defined]
        by_database[using] = list(rows.using(using).order_by("pk").values_list("pk", flat=True))
    else:
        for row in rows:
            by_database.setdefault(database_of(row), []).append(row.pk)
    for using, keys in by_database.items():
        for start in range(0, len(keys), CHUNK):
            yield using, keys[start : start + CHUNK]
