"""A kind of column that Django lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    _Text = models.CharField[str | None, str | None]
else:
    _Text = models.CharField


class ExactCharField(_Text):
    """Text in a unique column, of which no two may be taken for the same.

    MySQL and MariaDB compare without regard to case and accents unless the column says otherwise: an upsert for job
    ``Import`` would then change the row of job ``import``.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """Return Django's parameters of the column, with a collation where it is needed."""
        parameters: Any = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters
