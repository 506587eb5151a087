"""Installation: which installation a database belongs to, and where that has been run."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Row


class Installation(Row):
    """The one row of a database that names its installation. A copied database copies it too.

    ``homes`` are the places at which this installation has been run (see
    ``wellos_jobs.installation.home``), the latest last.
    """

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY, editable=False)
    identity = models.CharField(_("identity"), max_length=32)
    homes = models.JSONField(_("homes"), default=list)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("installation")
        verbose_name_plural = _("installations")

    def __str__(self) -> str:
        return self.identity
