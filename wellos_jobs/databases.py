"""Which databases hold jobs."""

from __future__ import annotations

from django.db import connections, router

from .models import JobRecord


def allowed() -> list[str]:
    """Return the aliases that the router lets hold jobs. Asks no database."""
    return [alias for alias in connections if router.allow_migrate_model(alias, JobRecord)]


def default() -> str:
    """Return the alias that new jobs and schedules go to when nobody chooses."""
    return str(router.db_for_write(JobRecord))


def with_jobs() -> list[str]:
    """Return the allowed aliases whose tables are there (asks each once)."""
    return [alias for alias in allowed() if has_table(alias)]


def has_table(alias: str) -> bool:
    """Tell whether a database has the table of jobs. Raises OperationalError when it is away."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        return JobRecord._meta.db_table in connection.introspection.table_names(cursor)
