"""Which databases hold jobs, writing many rows at once, and callbacks after a commit.

Models are imported inside the functions: ``wellos_jobs`` itself imports this module, before the
apps are ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import connections, router, transaction

if TYPE_CHECKING:
    from django.db import models


# --- which databases hold jobs --------------------------------------------------------------------


def job_databases() -> list[str]:
    """Return the aliases of the databases that may hold jobs, by the router. No query."""
    from .models import JobRecord

    return [alias for alias in connections if router.allow_migrate_model(alias, JobRecord)]


def default_database() -> str:
    """Return the alias of the database for new jobs and schedules, unless another is chosen."""
    from .models import JobRecord

    return str(router.db_for_write(JobRecord))


def migrated_databases() -> list[str]:
    """Return the aliases of the databases that have our tables: one query for each database."""
    return [alias for alias in job_databases() if has_job_table(alias)]


def has_job_table(alias: str) -> bool:
    """Return whether a database has the table of jobs.

    Raises:
        OperationalError: the database is unavailable.
    """
    from .models import JobRecord

    connection = connections[alias]
    with connection.cursor() as cursor:
        return JobRecord._meta.db_table in connection.introspection.table_names(cursor)


def is_usable(alias: str) -> bool:
    """Return whether the open connection to a database still answers."""
    connection = connections[alias]
    return connection.connection is not None and bool(connection.is_usable())


# --- writing many rows ----------------------------------------------------------------------------


def insert_many(rows: Sequence[models.Model], database: str) -> None:
    """INSERT complete rows with one ``executemany``.

    Not ``bulk_create``: on SQLite that makes one statement for each few dozen rows, because of its
    limit on parameters, and builds the SQL of each anew.
    """
    if not rows:
        return

    connection = connections[database]
    quote = connection.ops.quote_name
    options = rows[0]._meta
    fields = [field for field in options.concrete_fields if not field.generated]

    table = quote(options.db_table)
    columns = ", ".join(quote(str(field.column)) for field in fields)
    placeholders = ", ".join(["%s"] * len(fields))
    statement = f"INSERT INTO {table} ({columns}) VALUES ({placeholders})"  # noqa: S608  # quoted

    values = [
        tuple(field.get_db_prep_save(field.pre_save(row, add=True), connection) for field in fields)
        for row in rows
    ]
    with connection.cursor() as cursor:
        cursor.executemany(statement, values)

    for row in rows:
        row._state.adding = False
        row._state.db = database


def update_many(rows: Sequence[models.Model], fields: Sequence[str], database: str) -> None:
    """UPDATE the named fields of stored rows with one ``executemany``."""
    if not rows:
        return

    connection = connections[database]
    quote = connection.ops.quote_name
    options = rows[0]._meta
    key = options.pk
    changed = [field for field in options.concrete_fields if field.name in set(fields)]

    table = quote(options.db_table)
    changes = ", ".join(f"{quote(str(field.column))} = %s" for field in changed)
    key_column = quote(str(key.column))
    statement = f"UPDATE {table} SET {changes} WHERE {key_column} = %s"  # noqa: S608  # quoted

    values = [
        (
            *(field.get_db_prep_save(getattr(row, field.attname), connection) for field in changed),
            key.get_db_prep_save(row.pk, connection),
        )
        for row in rows
    ]
    with connection.cursor() as cursor:
        cursor.executemany(statement, values)


# --- after a commit -------------------------------------------------------------------------------


def run_on_commit(database: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function when the transaction on a database commits, or now if there is none.

    Its exceptions are logged, not raised.
    """
    call: Any = partial(function, *arguments)
    # Django 5.2 reads the name when it logs an exception.
    call.__qualname__ = getattr(function, "__qualname__", repr(function))

    transaction.on_commit(call, using=database, robust=True)
