"""Writing many rows in one call, whatever the database's limit on parameters."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connections, models


def insert_many(rows: Sequence[models.Model], database: str) -> None:
    """INSERT complete rows with one ``executemany``.

    Not ``bulk_create``: on SQLite that makes a statement for each few dozen rows, because of its
    limit on parameters, and each costs a round of SQL building.
    """
    if not rows:
        return
    connection = connections[database]
    options = rows[0]._meta
    fields = [field for field in options.concrete_fields if not field.generated]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    statement = f"INSERT INTO {quote(options.db_table)} ({columns}) VALUES ({places})"  # noqa: S608  # names, quoted
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
    options = rows[0]._meta
    columns = [field for field in options.concrete_fields if field.name in set(fields)]
    quote = connection.ops.quote_name
    changes = ", ".join(f"{quote(str(field.column))} = %s" for field in columns)
    statement = (
        f"UPDATE {quote(options.db_table)} SET {changes} WHERE {quote(str(options.pk.column))} = %s"  # noqa: S608
    )
    values = [
        (
            *(field.get_db_prep_save(getattr(row, field.attname), connection) for field in columns),
            options.pk.get_db_prep_save(row.pk, connection),
        )
        for row in rows
    ]
    with connection.cursor() as cursor:
        cursor.executemany(statement, values)
