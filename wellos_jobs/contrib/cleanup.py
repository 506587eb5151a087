"""Cleanup jobs: expired tokens, and users who never confirmed. The project says which rows those are.

    cleanup.register_expired_tokens(lambda now: AccessToken.objects.filter(expires_at__lt=now))
    cleanup.register_pending_users(lambda now: User.objects.filter(is_pending=True, date_joined__lt=now - week))

Put the calls into an app's ``jobs.py``, so that workers run them. Once a source is registered its job has a schedule:
expired tokens go daily at 02:00, pending users every hour.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from .. import Job, job, registry
from ..cron import Cron
from ..errors import ConfigurationError

QUEUE = "cleanup"
NIGHTLY = Cron("0 2 * * *")
HOURLY = Cron("0 * * * *")
BATCH_SIZE = 500
"""How many rows one transaction deletes: small enough that nobody waits long for a lock."""

Source = Callable[[datetime], "QuerySet[Any]"]

_expired_tokens: list[Source] = []
_pending_users: list[Source] = []


def register_expired_tokens(source: Source) -> Source:
    """Let ``cleanup_expired_tokens`` delete the rows that ``source``, given the time, returns as a queryset."""
    _schedule(cleanup_expired_tokens, NIGHTLY)
    return _add(_expired_tokens, source)


def register_pending_users(source: Source) -> Source:
    """Let ``cleanup_pending_users`` delete the rows that ``source``, given the time, returns as a queryset."""
    _schedule(cleanup_pending_users, HOURLY)
    return _add(_pending_users, source)


@job("cleanup-expired-tokens", queue=QUEUE, discard_on=(ConfigurationError,))
def cleanup_expired_tokens() -> int:
    """Delete the expired tokens; return how many there were."""
    return _sweep(_expired_tokens, "register_expired_tokens")


@job("cleanup-pending-users", queue=QUEUE, discard_on=(ConfigurationError,))
def cleanup_pending_users() -> int:
    """Delete the users who have been pending for too long; return how many there were."""
    return _sweep(_pending_users, "register_pending_users")


def delete_in_batches(rows: QuerySet[Any], size: int = BATCH_SIZE) -> int:
    """Delete the rows in transactions of ``size`` rows each; return how many, those deleted by cascade not counted.

    A row that has left the queryset by the time of its batch (a user who has just confirmed) stays.
    """
    return sum(_delete(rows.filter(pk__in=keys)) for keys in _batches(rows, size))


def _batches(rows: QuerySet[Any], size: int) -> Iterator[list[Any]]:
    keys_in_order = rows.order_by("pk").values_list("pk", flat=True)
    keys = list(keys_in_order[:size])
    while keys:
        yield keys
        keys = list(keys_in_order.filter(pk__gt=keys[-1])[:size])


def _delete(rows: QuerySet[Any]) -> int:
    _, by_model = rows.delete()
    return by_model.get(rows.model._meta.label, 0)


def _sweep(sources: list[Source], registration: str) -> int:
    if not sources:
        raise ConfigurationError(
            f"Nothing to clean up is known: call wellos_jobs.contrib.cleanup.{registration} in an app's jobs.py"
        )
    now = timezone.now()
    return sum(delete_in_batches(source(now)) for source in sources)


def _schedule(cleanup: Job[[], int], when: Cron) -> None:
    """Declare the job's schedule. Only now, because without a source each of its runs would fail."""
    registry.register(dataclasses.replace(cleanup.definition, schedule=when))


def _add(sources: list[Source], source: Source) -> Source:
    if source not in sources:
        sources.append(source)
    return source
