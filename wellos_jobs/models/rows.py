"""The base of all models: rows are read from the database that they are written to.

A router may send reads to a replica. A replica is behind: a page would show a job as it was, and an
operator would act on that. ``using`` still chooses any database.
"""

from __future__ import annotations

from typing import ClassVar, Self, TypeVar

from django.db import models, router

_Row = TypeVar("_Row", bound=models.Model)


class RowQuerySet(models.QuerySet[_Row]):
    """Reads where the router writes, also for related rows."""

    @property
    def db(self) -> str:
        return self._db or router.db_for_write(self.model, **self._hints)  # type: ignore[attr-defined]


class RowManager(models.Manager[_Row]):
    """Reads where the router writes."""

    _queryset_class = RowQuerySet

    @property
    def db(self) -> str:
        return self._db or router.db_for_write(self.model, **self._hints)  # type: ignore[attr-defined]


class Row(models.Model):
    """A model of this app. Foreign keys to it are followed by the same manager."""

    objects: ClassVar[models.Manager[Self]] = RowManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"
