"""A command that works with Redis starts only if that belongs to this installation."""

from __future__ import annotations

from django.core.management.base import CommandError
from django.db import connections

from .. import installation


def require_own_redis(source: str) -> None:
    """Note on both sides that this installation uses a Redis.

    Raises:
        CommandError: it belongs to another one, whose jobs would be run here.
    """
    problem = installation.refusal(source)
    connections.close_all()
    if problem:
        raise CommandError(problem)
