"""NoticeWindow: how many mails about one fault the admins have had lately, and how many letters wait for the next."""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models
from django.utils.translation import gettext_lazy as _


class NoticeWindow(models.Model):
    """What is told of one fault. A row is locked only while its numbers are changed, never while mail is sent."""

    fingerprint = models.CharField(_("fingerprint"), max_length=16, primary_key=True)
    since = models.DateTimeField(_("since"))
    """When the window began, or the last digest was made."""
    mails = models.PositiveIntegerField(_("mails"), default=0)
    """How many letters have had a mail each."""
    gathered = models.PositiveIntegerField(_("gathered"), default=0)
    """How many letters wait for the next digest."""
    telling = models.PositiveIntegerField(_("being told"), default=0)
    """How many letters the digest tells of that is being sent; it is sent again if it is not known to have been."""
    digest = models.UUIDField(_("digest"), null=True)
    """The job that will tell of those gathered."""

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        verbose_name = _("notice window")
        verbose_name_plural = _("notice windows")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["since"], name="wellos_notice_since")
        ]

    def __str__(self) -> str:
        return self.fingerprint
