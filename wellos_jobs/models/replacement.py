"""Replacement: marks a job as superseded until it has been canceled."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Row


class Replacement(Row):
    """A superseded job. No foreign key: its check would lock the job's row and block the ledger."""

    job = models.UUIDField(_("job"), primary_key=True)
    created_at = models.DateTimeField(_("created"))

    class Meta:
        verbose_name = _("replacement")
        verbose_name_plural = _("replacements")
        ordering: ClassVar[list[str]] = ["created_at"]

    def __str__(self) -> str:
        return str(self.job)
