"""An act of a person: who, why, from where; its audit entry, Redis when it cannot wait, the walk over many rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import broker
from ..enqueueing.handle import JobHandle
from ..errors import InvalidOperation, RedisUnavailable
from ..models import AuditEntry, JobRecord

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
    """What a bulk operation did: how many rows, and for the others a sentence each."""

    done: int = 0
    refused: list[str] = field(default_factory=list)
    untried: list[Any] = field(default_factory=list)
    """The primary keys of the rows that were not tried any more, since Redis is away."""

    @property
    def told(self) -> list[str]:
        """The sentences for a person."""
        n = len(self.untried)
        away = ngettext(
            "Redis cannot be reached: %(n)d was not tried",
            "Redis cannot be reached: %(n)d were not tried",
            n,
        ) % {"n": n}
        return [*self.refused, away] if n else self.refused


def record_of(job: JobRecord | JobHandle) -> JobRecord:
    """Return the row of a job that is given as a row or as a handle.

    Raises:
        JobNotFound: the handle's job is not (or no longer) in the database.
    """
    return job.record() if isinstance(job, JobHandle) else job


def with_redis(step: Callable[[], Answer]) -> Answer:
    try:
        return step()
    except broker.Unavailable as error:
        text = _("Redis cannot be reached, so nothing was changed: %(error)s")
        raise RedisUnavailable(text % {"error": error}) from error
    except broker.Error as error:  # as when a job's hash is something else
        raise RedisUnavailable(_("Redis refuses: %(error)s") % {"error": error}) from error


# --- many rows ------------------------------------------------------------------------------------


def one_by_one(step: Callable[..., Any], jobs: Iterable[JobRecord], **act: Any) -> Report:
    """Do ``step`` to each of many jobs, oldest first, and report how it went. It stops where Redis is away."""
    report = Report()
    for using, chunk in chunks(jobs):
        try_each(
            report,
            JobRecord.objects.using(using).filter(pk__in=chunk).order_by("pk"),
            partial(step, **act),
        )
    return report


def try_each(report: Report, rows: Iterable[Any], step: Callable[[Any], Any]) -> None:
    """Do ``step`` to each row and note how it went; not once Redis is away."""
    for row in rows:
        if report.untried:
            report.untried.append(row.pk)
            continue
        try:
            step(row)
        except InvalidOperation as error:
            report.refused.append(str(error))
        except RedisUnavailable as error:
            if isinstance(error.__cause__, broker.Unavailable):
                report.untried.append(row.pk)
            else:
                report.refused.append(str(error))
        else:
            report.done += 1


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
