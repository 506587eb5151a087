"""Cleanup jobs: expired tokens and sessions, users who never confirmed, old jobs. The project says which rows go.

    cleanup.register_expired_tokens(lambda now: AccessToken.objects.filter(expires_at__lt=now))
    cleanup.register_expired_tokens(cleanup.expired_sessions) cleanup.register_pending_users(lambda
    now: User.objects.filter(is_pending=True, date_joined__lt=now - week))

Put the calls into an app's ``jobs.py``, so that workers run them. Once a source is registered its
job has a schedule: expired tokens go daily at 02:00, pending users every hour. Rows go in batches,
each in a transaction of its own: a run that is killed has deleted whole batches, and the next one
goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone

from .. import Job, conf, current_job, job, report_progress
from ..conf import DEFAULT_RETENTION
from ..cron import Cron
from ..database import default_database
from ..definitions import registry
from ..definitions.retry import in_seconds
from ..errors import ConfigurationError
from ..maintenance.prune import prune

QUEUE = "cleanup"
NIGHTLY = Cron("0 2 * * *")
HOURLY = Cron("0 * * * *")
BATCH_SIZE = 500
"""How many rows one transaction deletes: small enough that nobody waits long for a lock."""
LONGEST = 3_600.0
"""Seconds that a cleanup may take."""

Source = Callable[[datetime], "QuerySet[Any]"]

_expired_tokens: list[Source] = []
_pending_users: list[Source] = []


def register_expired_tokens(source: Source) -> Source:
    """Let ``cleanup_expired_tokens`` delete the rows that ``source``, given the time, returns as a queryset."""
    schedule(cleanup_expired_tokens, NIGHTLY)
    return _add(_expired_tokens, source)


def register_pending_users(source: Source) -> Source:
    """Let ``cleanup_pending_users`` delete the rows that ``source``, given the time, returns as a queryset."""
    schedule(cleanup_pending_users, HOURLY)
    return _add(_pending_users, source)


def expired_sessions(now: datetime) -> QuerySet[Any]:
    """The sessions in the database that have expired: a source for ``register_expired_tokens``.

    Raises:
        ConfigurationError: ``SESSION_ENGINE`` keeps no sessions in the database.
    """
    engine = str(conf.django_setting("SESSION_ENGINE"))
    store = importlib.import_module(engine).SessionStore
    if not hasattr(store, "get_model_class"):
        raise ConfigurationError(
            f"SESSION_ENGINE is {engine!r}, which keeps no sessions in the database: do not register expired_sessions"
        )
    sessions: QuerySet[Any] = store.get_model_class()._default_manager.filter(expire_date__lt=now)
    return sessions


@job("cleanup-expired-tokens", queue=QUEUE, timeout=LONGEST, discard_on=(ConfigurationError,))
def cleanup_expired_tokens() -> int:
    """Delete the expired tokens; return how many this run deleted."""
    return _sweep(_expired_tokens, "register_expired_tokens")


@job("cleanup-pending-users", queue=QUEUE, timeout=LONGEST, discard_on=(ConfigurationError,))
def cleanup_pending_users() -> int:
    """Delete the users who have been pending for too long; return how many this run deleted."""
    return _sweep(_pending_users, "register_pending_users")


@job("cleanup-old-jobs", queue=QUEUE, timeout=LONGEST)
def cleanup_old_jobs(ages: Mapping[str, Any]) -> int:
    """Delete the rows of jobs that ended longer ago than ``ages`` says; return how many this run deleted.

    ``ages`` is by state (``completed``, ``canceled``, ``failed``, and ``dead_letters`` for open
    ones) or kind of other rows (``statistics``, ``audit``), each a timedelta or seconds; a state
    that is not named is left alone. ``RETENTION`` does the same by itself: this is for once.

    Raises:
        ValidationError: a state or an age cannot be meant.
    """
    retention = _retention(ages)
    running = current_job(default=None)
    using = running.database if running is not None else default_database()
    total, deleted = sum(prune(using, dry_run=True, retention=retention).values()), 0
    while batch := sum(prune(using, most=1, retention=retention).values()):
        deleted += batch
        _tell(deleted, total)
    return deleted


def delete_in_batches(rows: QuerySet[Any], size: int = BATCH_SIZE) -> int:
    """Delete the rows in transactions of ``size`` rows each; return how many, those deleted by cascade not counted.

    A row that has left the queryset by the time of its batch (a user who has just confirmed) stays.
    """
    return sum(_delete(rows.filter(pk__in=keys)) for keys in _batches(rows, size))


def schedule(cleanup: Job[..., int], when: Cron) -> None:
    """Declare the job's schedule. Only once it has something to do, because until then each of its runs would fail."""
    registry.register(dataclasses.replace(cleanup.definition, schedule=when))


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
    swept = [source(now) for source in sources]
    total, deleted = sum(rows.count() for rows in swept), 0
    for rows in swept:
        for keys in _batches(rows, BATCH_SIZE):
            deleted += _delete(rows.filter(pk__in=keys))
            _tell(deleted, total)
    return deleted


def _tell(deleted: int, total: int) -> None:
    report_progress(
        min(100 * deleted / max(total, 1), 99), f"{deleted} of {max(total, deleted)} deleted"
    )


def _retention(ages: Mapping[str, Any]) -> dict[str, timedelta | None]:
    retention: dict[str, timedelta | None] = dict.fromkeys(DEFAULT_RETENTION)
    for state, age in ages.items():
        if state not in retention:
            raise ValidationError(f"ages has {state!r}: it is not one of {', '.join(retention)}")
        try:
            retention[state] = timedelta(seconds=in_seconds(f"ages[{state!r}]", age, least=1.0))
        except ValueError as error:
            raise ValidationError(str(error)) from error
    return retention


def _add(sources: list[Source], source: Source) -> Source:
    if source not in sources:
        sources.append(source)
    return source
