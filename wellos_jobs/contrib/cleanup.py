"""Cleanup jobs for expired tokens and sessions, unconfirmed users and old jobs.

The project registers querysets of the rows to delete, in an app's ``jobs.py``:

    cleanup.register_expired_tokens(lambda now: AccessToken.objects.filter(expires_at__lt=now))
    cleanup.register_expired_tokens(cleanup.expired_sessions)
    cleanup.register_pending_users(
        lambda now: User.objects.filter(is_pending=True, date_joined__lt=now - week)
    )

Registering a queryset also schedules its job: expired tokens daily at 02:00, pending users hourly.
Rows are deleted in batches, each in its own transaction. If a run is killed, the next one continues
with the remaining rows. A row that another one holds (PROTECT, RESTRICT, a constraint) is kept, and
a warning names the holder.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.db.models import QuerySet
from django.utils import timezone

from .. import Job, conf, current_job, job, report_progress
from ..conf import DEFAULT_RETENTION
from ..cron import Cron
from ..database import default_database
from ..definitions import registry
from ..definitions.durations import in_seconds
from ..errors import ConfigurationError
from ..maintenance.held_rows import HeldRows, holders
from ..maintenance.prune import prune

logger = logging.getLogger("wellos_jobs")

QUEUE = "cleanup"
NIGHTLY = Cron("0 2 * * *")
HOURLY = Cron("0 * * * *")
BATCH_SIZE = 500
"""Rows deleted in one transaction; small, so that locks are held briefly."""
TIMEOUT = 3_600.0
"""Time limit of a cleanup job, in seconds."""

Source = Callable[[datetime], "QuerySet[Any]"]

_expired_tokens: list[Source] = []
_pending_users: list[Source] = []


def register_expired_tokens(source: Source) -> Source:
    """Register rows for ``cleanup_expired_tokens``: ``source(now)`` returns them as a queryset."""
    schedule(cleanup_expired_tokens, NIGHTLY)
    return _add(_expired_tokens, source)


def register_pending_users(source: Source) -> Source:
    """Register rows for ``cleanup_pending_users``: ``source(now)`` returns them as a queryset."""
    schedule(cleanup_pending_users, HOURLY)
    return _add(_pending_users, source)


def expired_sessions(now: datetime) -> QuerySet[Any]:
    """Return the expired sessions, for use with ``register_expired_tokens``.

    Raises:
        ConfigurationError: ``SESSION_ENGINE`` does not store sessions in the database.
    """
    engine = str(conf.django_setting("SESSION_ENGINE"))
    store = importlib.import_module(engine).SessionStore
    if not hasattr(store, "get_model_class"):
        raise ConfigurationError(
            f"SESSION_ENGINE {engine!r} does not store sessions in the database: "
            "do not register expired_sessions"
        )

    sessions: QuerySet[Any] = store.get_model_class()._default_manager.filter(expire_date__lt=now)
    return sessions


@job("cleanup-expired-tokens", queue=QUEUE, timeout=TIMEOUT, discard_on=(ConfigurationError,))
def cleanup_expired_tokens() -> int:
    """Delete the expired tokens and return the number deleted by this run."""
    return _sweep(_expired_tokens, "register_expired_tokens")


@job("cleanup-pending-users", queue=QUEUE, timeout=TIMEOUT, discard_on=(ConfigurationError,))
def cleanup_pending_users() -> int:
    """Delete the registered pending users and return the number deleted by this run."""
    return _sweep(_pending_users, "register_pending_users")


@job("cleanup-old-jobs", queue=QUEUE, timeout=TIMEOUT)
def cleanup_old_jobs(ages: Mapping[str, Any]) -> int:
    """Delete job rows older than ``ages`` and return the number deleted by this run.

    ``ages`` maps ``completed``, ``canceled``, ``failed``, ``dead_letters`` (open ones),
    ``statistics`` or ``audit`` to a timedelta or seconds. Rows of other kinds are kept. Use it for
    a one-time cleanup: the ``RETENTION`` setting does the same continuously.

    Raises:
        ValidationError: a key or an age is invalid.
    """
    retention = _retention(ages)
    running = current_job(default=None)
    using = running.database if running is not None else default_database()

    total, deleted = sum(prune(using, dry_run=True, retention=retention).values()), 0
    held, is_more = HeldRows(), True
    while is_more:
        held.has_new = False
        batch = sum(prune(using, most=1, retention=retention, held=held).values())
        if batch:
            deleted += batch
            _report_deleted(deleted, total)
        is_more = bool(batch) or held.has_new
    return deleted


def delete_in_batches(rows: QuerySet[Any], size: int = BATCH_SIZE) -> int:
    """Delete rows in transactions of ``size`` and return their number, without cascaded rows.

    A row that no longer matches the queryset when its batch is deleted is kept, for example a user
    who has just confirmed.
    """
    return sum(_delete(rows, keys) for keys in _batches(rows, size))


def schedule(cleanup: Job[..., int], when: Cron) -> None:
    """Declare the job's schedule. Call it once rows are registered: without any, the job fails."""
    registry.register(dataclasses.replace(cleanup.definition, schedule=when))


def _batches(rows: QuerySet[Any], size: int) -> Iterator[list[Any]]:
    keys_in_order = rows.order_by("pk").values_list("pk", flat=True)
    keys = list(keys_in_order[:size])
    while keys:
        yield keys
        keys = list(keys_in_order.filter(pk__gt=keys[-1])[:size])


def _delete(rows: QuerySet[Any], keys: list[Any]) -> int:
    """Delete a batch; if a row of it is held, one by one, and keep those that are held."""
    label = rows.model._meta.label
    try:
        _, by_model = rows.filter(pk__in=keys).delete()
    except IntegrityError as error:  # ProtectedError and RestrictedError are, too
        if len(keys) > 1:
            return sum(_delete(rows, [key]) for key in keys)
        logger.warning(
            "cleanup: %s %s is kept because %s holds it: %s",
            label,
            keys[0],
            ", ".join(holders(error)),
            error,
        )
        return 0
    return int(by_model.get(label, 0))


def _sweep(sources: list[Source], registration: str) -> int:
    if not sources:
        raise ConfigurationError(
            "There are no registered rows to delete: "
            f"call wellos_jobs.contrib.cleanup.{registration} in an app's jobs.py"
        )

    now = timezone.now()
    querysets = [source(now) for source in sources]
    total, deleted = sum(rows.count() for rows in querysets), 0

    for rows in querysets:
        for keys in _batches(rows, BATCH_SIZE):
            deleted += _delete(rows, keys)
            _report_deleted(deleted, total)
    return deleted


def _report_deleted(deleted: int, total: int) -> None:
    report_progress(
        min(100 * deleted / max(total, 1), 99), f"{deleted} of {max(total, deleted)} deleted"
    )


def _retention(ages: Mapping[str, Any]) -> dict[str, timedelta | None]:
    retention: dict[str, timedelta | None] = dict.fromkeys(DEFAULT_RETENTION)
    for key, age in ages.items():
        if key not in retention:
            raise ValidationError(f"Unknown key {key!r} in ages: use {', '.join(retention)}")
        try:
            retention[key] = timedelta(seconds=in_seconds(f"ages[{key!r}]", age, least=1.0))
        except ValueError as error:
            raise ValidationError(str(error)) from error
    return retention


def _add(sources: list[Source], source: Source) -> Source:
    if source not in sources:
        sources.append(source)
    return source
