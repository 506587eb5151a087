"""Kinds of columns that Django lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

from .. import conf

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    _Text = models.CharField[str | None, str | None]
else:
    _Text = models.CharField


class ExactCharField(_Text):
    """Text in a unique column, of which no two may be taken for the same.

    MySQL and MariaDB compare without regard to case and accents unless the column says otherwise:
    an upsert for job ``Import`` would then change the row of job ``import``.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """Return Django's parameters of the column, with a collation where it is needed."""
        parameters: Any = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


def user_key(label: Any) -> models.ForeignKey[Any, Any]:
    """Return a column for a person, who may live in another database than the jobs, and be deleted."""
    return models.ForeignKey(
        conf.user_model(),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_constraint=False,
        related_name="+",
        verbose_name=label,
    )
