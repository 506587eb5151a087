"""Empties the databases after a transactional test: one query finds the tables that hold rows, and
only those are emptied.

Django's ``flush`` empties all of them and sends ``post_migrate``, which writes each permission and
content type anew: a tenth of a second a test, 1,200 times a run.
"""

from __future__ import annotations

from functools import cache

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.test import TransactionTestCase

WRITTEN_BY_MIGRATIONS = {Permission._meta.db_table, ContentType._meta.db_table}


def install() -> None:
    """Let every ``TransactionTestCase`` of this process end so."""
    TransactionTestCase._fixture_teardown = _empty_databases  # type: ignore[method-assign]


def _empty_databases(case: TransactionTestCase) -> None:
    for alias in case._databases_names(include_mirrors=False):
        empty(alias)


def empty(alias: str) -> None:
    """Delete all rows of one database but those that migrations wrote."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(_query(alias))
        filled = [name for (name,) in cursor.fetchall()]

    if not filled:
        return
    # Foreign keys are checked at the commit, on MariaDB not at all: the order does not matter.
    with (
        connection.constraint_checks_disabled(),
        transaction.atomic(using=alias),
        connection.cursor() as cursor,
    ):
        for name in filled:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(name)}")


@cache
def _query(alias: str) -> str:
    """Return the query that lists the tables which hold rows."""
    models = apps.get_models(include_auto_created=True)
    tables = {model._meta.db_table for model in models if model._meta.managed}
    quote = connections[alias].ops.quote_name
    return " UNION ALL ".join(
        f"SELECT '{name}' FROM (SELECT 1 AS one) AS one WHERE EXISTS (SELECT 1 FROM {quote(name)})"
        for name in sorted(tables - WRITTEN_BY_MIGRATIONS)
    )
