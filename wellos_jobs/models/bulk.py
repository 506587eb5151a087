"""BulkOperation, one act of a person on all rows that match a filter, done as a job."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import user_key


class BulkOperation(models.Model):
    """What is done to which rows, how far it is, and how it went.

    ``last`` is the key of the last row that was treated: a run that is repeated goes on behind it.
    ``bound`` is the highest key that counts: rows that came after the person was asked are not
    meant.
    """

    action = models.CharField(_("action"), max_length=40)
    model = models.CharField(_("kind of rows"), max_length=40)
    site = models.CharField(_("admin site"), max_length=40)
    query = models.TextField(_("query string"), blank=True, default="")
    options = models.JSONField(_("options"), default=dict)
    actor = user_key(_("actor"))
    actor_name = models.CharField(_("actor's name"), max_length=150, blank=True, default="")
    address = models.CharField(_("address"), max_length=64, blank=True, default="")
    reason = models.TextField(_("reason"), blank=True, default="")
    job = models.ForeignKey(
        "wellos_jobs.JobRecord",
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        verbose_name=_("job"),
    )
    total = models.PositiveIntegerField(_("rows"), default=0)
    done = models.PositiveIntegerField(_("done"), default=0)
    refused = models.PositiveIntegerField(_("left alone"), default=0)
    refusals = models.JSONField(_("why they were left alone"), default=list)
    last = models.CharField(_("last key"), max_length=40, blank=True, default="")
    bound = models.CharField(_("highest key"), max_length=40, blank=True, default="")
    stopped_by = models.CharField(_("stopped by"), max_length=150, blank=True, default="")
    created_at = models.DateTimeField(_("created"))
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("bulk operation")
        verbose_name_plural = _("bulk operations")
        ordering: ClassVar[list[str]] = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.action.replace('_', ' ')} {self.pk}"

    @property
    def percent(self) -> int:
        """How far it is. Rows may have ended by themselves meanwhile, so it is done only when it says so."""
        if self.finished_at is not None:
            return 100
        return min(99, 100 * (self.done + self.refused) // self.total) if self.total else 0
