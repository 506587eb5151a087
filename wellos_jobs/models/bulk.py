"""BulkOperation: an operator action on all rows that match a filter, run as a job."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import FreeChar, FreeText
from .rows import Row
from .users import user_key


class BulkOperation(Row):
    """The action, the rows it applies to, its progress and its outcome.

    ``last`` is the key of the last processed row: a repeated run continues after it. ``bound`` is
    the highest key included: rows created after the operator confirmed are excluded.
    """

    action = models.CharField(_("action"), max_length=40)
    model = models.CharField(_("model"), max_length=40)
    site = models.CharField(_("admin site"), max_length=40)
    query = models.TextField(_("query string"), blank=True, default="")
    options = models.JSONField(_("options"), default=dict)
    actor = user_key(_("actor"))
    actor_name = FreeChar(_("actor's name"), max_length=150, blank=True, default="")
    address = models.CharField(_("address"), max_length=64, blank=True, default="")
    reason = FreeText(_("reason"), blank=True, default="")
    job = models.ForeignKey(
        "wellos_jobs.JobRecord",
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        verbose_name=_("job"),
    )
    total = models.PositiveIntegerField(_("rows"), default=0)
    done = models.PositiveIntegerField(_("done"), default=0)
    refused = models.PositiveIntegerField(_("skipped"), default=0)
    refusals = models.JSONField(_("reasons for skipping"), default=list)
    last = models.CharField(_("last key"), max_length=40, blank=True, default="")
    bound = models.CharField(_("highest key"), max_length=40, blank=True, default="")
    stopped_by = FreeChar(_("stopped by"), max_length=150, blank=True, default="")
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
        """Progress in percent; 100 only once finished, as rows may leave the filter meanwhile."""
        if self.finished_at is not None:
            return 100
        return min(99, 100 * (self.done + self.refused) // self.total) if self.total else 0
