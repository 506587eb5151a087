"""Column types that Django lacks: text compared exactly, and text that any column can store."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections, models

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    _Text = models.CharField[str | None, str | None]
    _ShortText = models.CharField[str, str]
    _LongText = models.TextField[str, str]
else:
    _Text = models.CharField
    _ShortText = models.CharField
    _LongText = models.TextField


class ExactCharField(_Text):
    """Text for a unique column, compared exactly on every database.

    MySQL and MariaDB ignore case and accents by default: an upsert for job ``Import`` would update
    the row of job ``import``.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """Return the column's parameters, with a binary collation on MySQL and MariaDB."""
        parameters: Any = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


# --- text in any character set --------------------------------------------------------------------

CODECS = {"utf8mb4": None, "utf8": "utf-8", "utf8mb3": "utf-8", "latin1": "cp1252"}
"""Character sets of MySQL as Python's codecs; None for all of Unicode. Others count as ASCII."""

_BEYOND_UTF8MB3 = re.compile("[\U00010000-\U0010ffff]")


class FreeText(_LongText):
    """Text by people or of errors. What a column cannot store is written as ``\\U0001f600``.

    Tables of MySQL and MariaDB may have an old character set, which refuses emojis: no error, end
    of a job or audit entry is lost for that.
    """

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        found: Any = super().get_db_prep_value(value, connection, prepared)
        return _storable(found, connection, "backslashreplace")


class FreeChar(_ShortText):
    """Short text by people or of errors; what a column cannot store is written as ``?``."""

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        found: Any = super().get_db_prep_value(value, connection, prepared)
        return _storable(found, connection, "replace")


def _storable(value: Any, connection: BaseDatabaseWrapper, errors: str) -> Any:
    if connection.vendor != "mysql" or not isinstance(value, str) or value.isascii():
        return value
    name = str(connection.settings_dict["NAME"])
    codec = CODECS.get(character_set(connection.alias, name), "ascii")
    if codec is None:
        return value
    if codec == "utf-8":
        return _BEYOND_UTF8MB3.sub(lambda found: _ascii(found[0], errors), value)
    return value.encode(codec, errors).decode(codec)


def _ascii(text: str, errors: str) -> str:
    return text.encode("ascii", errors).decode()


@cache
def character_set(alias: str, name: str) -> str:
    """Return the character set of the tables of jobs in a MySQL database; asked once.

    ``name`` is that of the database. An empty answer, without the table, is ``utf8mb4``.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT character_set_name FROM information_schema.columns WHERE table_schema = %s "
            "AND table_name = 'wellos_jobs_jobrecord' AND column_name = 'error'",
            [name],
        )
        row = cursor.fetchone()
    return str(row[0]) if row else "utf8mb4"
