"""UniqueClaim: which job holds a unique key; in the database, so it covers uncommitted rows too."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Row


class UniqueClaim(Row):
    """The holder of one key. A conditional UPDATE takes it over once it has expired or ended."""

    key = models.CharField(_("key"), max_length=64, primary_key=True)
    job = models.UUIDField(_("job"))
    expires = models.DateTimeField(_("expires"), null=True, blank=True)

    class Meta:
        verbose_name = _("unique claim")
        verbose_name_plural = _("unique claims")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["expires"], name="wellos_unique_expires")
        ]

    def __str__(self) -> str:
        return f"{self.key[:12]} held by {self.job}"
