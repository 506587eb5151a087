"""LedgerCursor: the ledger's position in one event stream."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class LedgerCursor(models.Model):
    """The position up to which the events of one Redis are applied to this database.

    ``source`` names the Redis. ``epoch`` changes when Redis comes back empty. ``beat`` is the
    leader's last heartbeat: a lower one in Redis than here means that Redis was rolled back.

    After that, and when another ``server_run`` of Redis answers, the stream is read again from its
    start. What it holds up to ``known_upto`` may have been applied before.
    """

    source = models.CharField(max_length=120, primary_key=True)
    epoch = models.CharField(max_length=40, blank=True, default="")
    position = models.CharField(max_length=40, default="0-0")
    beat = models.FloatField(default=0.0)
    server_run = models.CharField(max_length=60, blank=True, default="")
    known_upto = models.CharField(max_length=40, default="0-0")

    class Meta:
        verbose_name = _("ledger cursor")
        verbose_name_plural = _("ledger cursors")

    def __str__(self) -> str:
        return f"{self.source} at {self.position}"
