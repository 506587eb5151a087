"""Writes complete rows with one statement and one round trip, apart from the ORM.

The ORM builds the SQL of an INSERT anew for each call, and for many rows one statement for each few
dozen. Here statements are built once for each model and database, and values are converted once
for all rows that share them, as the jobs of one call share most.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.db import connections, models, transaction

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_LENGTH = re.compile(r"\(\d+(, *\d+)?\)")

Column = list[Any]
"""The values of one field, one for each row."""


def insert_rows(rows: Sequence[models.Model], database: str) -> None:
    """INSERT rows whose primary keys are set. Several rows need a transaction around them.

    Sends no ``pre_save`` and no ``post_save``, like ``bulk_create``.
    """
    if not rows:
        return

    model = type(rows[0])
    connection = connections[database]
    fields = _insert_plan(model, database).fields
    columns = [_converted(field, rows, connection) for field in fields]
    _insert(model, columns, database)

    for row in rows:
        row._state.adding = False
        row._state.db = database


def _insert(model: type[models.Model], columns: Sequence[Column], database: str) -> None:
    connection, count = connections[database], len(columns[0])
    with transaction.mark_for_rollback_on_error(using=database), connection.cursor() as cursor:
        if count == 1:
            cursor.execute(_values_statement(model, database), [column[0] for column in columns])
        elif connection.vendor == "postgresql":
            _insert_arrays(cursor, model, database, columns)
        else:
            rows = list(zip(*columns, strict=True))
            cursor.executemany(_values_statement(model, database), rows)


def update_rows(rows: Sequence[models.Model], names: Sequence[str], database: str) -> None:
    """UPDATE the named fields of stored rows with one ``executemany``."""
    if not rows:
        return

    connection = connections[database]
    quote = connection.ops.quote_name
    options = rows[0]._meta
    changed = [field for field in options.concrete_fields if field.name in set(names)]

    changes = ", ".join(f"{quote(str(field.column))} = %s" for field in changed)
    statement = (
        f"UPDATE {quote(options.db_table)} SET {changes} "  # noqa: S608  # quoted
        f"WHERE {quote(str(options.pk.column))} = %s"
    )
    columns = [_converted(field, rows, connection) for field in (*changed, options.pk)]
    with connection.cursor() as cursor:
        cursor.executemany(statement, list(zip(*columns, strict=True)))


def _insert_arrays(
    cursor: Any, model: type[models.Model], database: str, columns: Sequence[Column]
) -> None:
    shared = tuple(all(value is column[0] for value in column) for column in columns)
    values = [
        column[0] if is_shared else column
        for column, is_shared in zip(columns, shared, strict=True)
    ]
    arrays = [value for value, is_shared in zip(values, shared, strict=True) if not is_shared]
    constants = [value for value, is_shared in zip(values, shared, strict=True) if is_shared]
    cursor.execute(_unnest_statement(model, database, shared), [*arrays, *constants])


# --- values ---------------------------------------------------------------------------------------


def _converted(
    field: models.Field[Any, Any], rows: Sequence[models.Model], connection: BaseDatabaseWrapper
) -> Column:
    """Return a field's values as the database takes them.

    Neighbors often hold the same object (``now``, a name, None): it is converted once.
    """
    convert, name = field.get_db_prep_save, field.attname
    column: Column = []
    last: Any = _NOTHING
    converted: Any = None
    for row in rows:
        value = getattr(row, name)
        if value is not last:
            last, converted = value, convert(value, connection)
        column.append(converted)
    return column


_NOTHING = object()


# --- statements -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _InsertPlan:
    """What an INSERT into one model's table needs, found once."""

    fields: tuple[models.Field[Any, Any], ...]
    table: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    """Column types without a length: a cast to ``varchar(50)`` would cut what is longer."""

    @property
    def head(self) -> str:
        return f"INSERT INTO {self.table} ({', '.join(self.columns)})"


@lru_cache(maxsize=100)
def _insert_plan(model: type[models.Model], database: str) -> _InsertPlan:
    connection = connections[database]
    quote = connection.ops.quote_name
    fields = tuple(field for field in model._meta.concrete_fields if not field.generated)
    return _InsertPlan(
        fields,
        quote(model._meta.db_table),
        tuple(quote(str(field.column)) for field in fields),
        tuple(_LENGTH.sub("", str(field.db_type(connection))) for field in fields),
    )


@lru_cache(maxsize=100)
def _values_statement(model: type[models.Model], database: str) -> str:
    plan = _insert_plan(model, database)
    return f"{plan.head} VALUES ({', '.join(['%s'] * len(plan.fields))})"


@lru_cache(maxsize=100)
def _unnest_statement(model: type[models.Model], database: str, shared: tuple[bool, ...]) -> str:
    """Return PostgreSQL's INSERT of many rows: an array for each column, one value for those that
    all rows share."""
    plan = _insert_plan(model, database)
    chosen, arrays, names = [], [], []
    for number, (type_name, is_shared) in enumerate(zip(plan.types, shared, strict=True)):
        if is_shared:
            chosen.append(f"%s::{type_name}")
            continue
        chosen.append(f"v{number}")
        names.append(f"v{number}")
        arrays.append(f"%s::{type_name}[]")
    return (  # the names are quoted
        f"{plan.head} WITH rows AS (SELECT * FROM unnest({', '.join(arrays)}) "  # noqa: S608
        f"AS r({', '.join(names)})) SELECT {', '.join(chosen)} FROM rows"
    )
