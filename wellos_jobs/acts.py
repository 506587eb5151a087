"""An act of a person: who, why, from where; its audit entry, and Redis when it cannot wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.utils import timezone
from django.utils.translation import gettext as _

from . import redis
from .errors import RedisUnavailable
from .handles import JobHandle
from .models import AuditEntry, JobRecord

Answer = TypeVar("Answer")


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
