"""A command that works with Redis starts only if it may reach it, and it is this installation's."""

from __future__ import annotations

from django.core.management.base import CommandError
from django.db import connections

from .. import installation
from ..broker import kept_away


def require_reachable_redis() -> None:
    """Refuse to wait for a Redis that a test run keeps away from.

    Raises:
        CommandError: this is such a run.
    """
    if kept_away.is_kept_away():
        raise CommandError(kept_away.REASON)


def require_own_redis(source: str) -> None:
    """Note on both sides that this installation uses a Redis.

    Raises:
        CommandError: it belongs to another one, whose jobs would be run here.
    """
    problem = installation.refusal(source)
    connections.close_all()
    if problem:
        raise CommandError(problem)
