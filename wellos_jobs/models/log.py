"""JobLog: the captured log lines of one run."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Row


class JobLog(Row):
    """What one run logged, with secrets masked; only the last lines if there were too many.

    Snoozed runs have a log too, so an attempt may have several.

    ``lines`` is a list of ``[Unix seconds, level name, logger name, text]``, oldest first.
    """

    job = models.ForeignKey(
        "wellos_jobs.JobRecord",
        on_delete=models.CASCADE,
        related_name="log_set",
        verbose_name=_("job"),
    )
    replay = models.PositiveIntegerField(_("replay"), default=0)
    number = models.PositiveIntegerField(_("attempt"))
    lines = models.JSONField(_("lines"), default=list)
    dropped = models.PositiveIntegerField(_("dropped lines"), default=0)

    class Meta:
        verbose_name = _("run log")
        verbose_name_plural = _("run logs")
        ordering: ClassVar[list[str]] = ["job", "replay", "number", "pk"]

    def __str__(self) -> str:
        return f"{self.job_id} #{self.number}"
