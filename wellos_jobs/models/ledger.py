"""LedgerCursor: the ledger's position in one event stream."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Row


class LedgerCursor(Row):
    """The position up to which the events of one Redis are applied to this database.

    ``source`` names the Redis, ``database`` the alias whose events are meant: two aliases of one
    database have a cursor each, so neither passes over the other's events. ``epoch`` changes when
    Redis comes back empty. ``beat`` is the leader's last heartbeat: a lower one in Redis than here
    means that Redis was rolled back.

    After that, and when another ``server_run`` of Redis answers, the stream is read again from its
    start. What it holds up to ``known_upto`` may have been applied before.

    ``mark`` is written through one alias and read through another, to see whether they lead to the
    same database.
    """

    source = models.CharField(max_length=120)
    database = models.CharField(max_length=120)
    epoch = models.CharField(max_length=40, blank=True, default="")
    position = models.CharField(max_length=40, default="0-0")
    beat = models.FloatField(default=0.0)
    server_run = models.CharField(max_length=60, blank=True, default="")
    known_upto = models.CharField(max_length=40, default="0-0")
    mark = models.CharField(max_length=32, blank=True, default="")

    class Meta:
        verbose_name = _("ledger cursor")
        verbose_name_plural = _("ledger cursors")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["source", "database"], name="wellos_cursor_once"),
        ]

    def __str__(self) -> str:
        return f"{self.source} at {self.position}"
