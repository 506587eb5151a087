"""NoticeWindow: rate limit and pending digest of the failure mail for one fingerprint."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Row


class NoticeWindow(Row):
    """Failure mail for one fingerprint. Locked only while updated, never while mail is sent."""

    fingerprint = models.CharField(_("fingerprint"), max_length=16, primary_key=True)
    since = models.DateTimeField(_("since"))
    """When the window began, or the last digest was sent."""
    mails = models.PositiveIntegerField(_("mails"), default=0)
    """Dead letters of this window that were mailed individually."""
    pending = models.PositiveIntegerField(_("pending"), default=0)
    """Dead letters held back for the next digest."""
    sending = models.PositiveIntegerField(_("being sent"), default=0)
    """Dead letters in the digest being sent; it is resent if delivery was not confirmed."""
    digest = models.UUIDField(_("digest"), null=True)
    """The job that will send the next digest."""

    class Meta:
        verbose_name = _("notice window")
        verbose_name_plural = _("notice windows")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["since"], name="wellos_notice_since")
        ]

    def __str__(self) -> str:
        return self.fingerprint
