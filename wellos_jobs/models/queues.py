"""Queues: no table; gives the admin's queue page its URL, its menu entry and its permissions."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class NoRows(models.Manager["Queues"]):
    """A manager without rows and without queries: `dumpdata` reads the rows of each model."""

    def get_queryset(self) -> models.QuerySet[Queues]:
        return super().get_queryset().none()


class Queues(models.Model):
    """The queues of ``RQ_QUEUES``, which live in Redis."""

    objects = NoRows()

    class Meta:
        base_manager_name = "objects"
        managed = False
        default_permissions = ("view",)
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        permissions = [
            ("pause_queue", _("Can pause and resume queues")),
            ("empty_queue", _("Can empty queues")),
            ("change_limit", _("Can change limits")),
            ("reset_breaker", _("Can reset circuit breakers")),
            ("trip_breaker", _("Can trip circuit breakers")),
            ("quiet_worker", _("Can quiet workers")),
            ("stop_worker", _("Can stop workers")),
        ]
