"""Column types that Django lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    _Text = models.CharField[str | None, str | None]
else:
    _Text = models.CharField


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
