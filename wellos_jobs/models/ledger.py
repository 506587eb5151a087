"""LedgerCursor, the ledger's place in one event stream, and its counts by minute, hour and day."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import ExactCharField


class LedgerCursor(models.Model):
    """How far the event stream of one Redis has been folded into this database.

    ``source`` names the Redis, ``epoch`` its life (a Redis that comes back empty starts a new one), ``beat``
    is the leader's last heartbeat: a lower one in Redis than here means Redis was rolled back.
    """

    source = models.CharField(max_length=120, primary_key=True)
    epoch = models.CharField(max_length=40, blank=True, default="")
    position = models.CharField(max_length=40, default="0-0")
    beat = models.FloatField(default=0.0)

    class Meta:
        verbose_name = _("ledger cursor")
        verbose_name_plural = _("ledger cursors")

    def __str__(self) -> str:
        return f"{self.source} at {self.position}"


class Counts(models.Model):
    """What happened to the jobs of one name in one queue in a span of time, whose beginning a subclass adds.

    ``wait_histogram`` and ``run_histogram`` count jobs by the buckets of ``wellos_jobs.statistics``.
    """

    queue = ExactCharField(_("queue"), max_length=100)
    name = ExactCharField(_("name"), max_length=180)
    enqueued = models.PositiveIntegerField(default=0)
    started = models.PositiveIntegerField(default=0)
    completed = models.PositiveIntegerField(default=0)
    retried = models.PositiveIntegerField(default=0)
    snoozed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    canceled = models.PositiveIntegerField(default=0)
    rescued = models.PositiveIntegerField(default=0)
    wait_seconds = models.FloatField(default=0.0)
    run_seconds = models.FloatField(default=0.0)
    wait_histogram = models.JSONField(default=list)
    run_histogram = models.JSONField(default=list)

    class Meta:
        abstract = True


class JobStatistic(Counts):
    """What happened in one minute."""

    minute = models.DateTimeField(_("minute"))

    class Meta:
        verbose_name = _("statistic")
        verbose_name_plural = _("statistics")
        ordering: ClassVar[list[str]] = ["-minute", "queue", "name"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["minute", "queue", "name"], name="wellos_statistic_minute"),
        ]

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M} {self.queue} {self.name}"


class HourStatistic(Counts):
    """What happened in one hour of UTC: the same counts again, so that a week is read quickly."""

    hour = models.DateTimeField(_("hour"))

    class Meta:
        verbose_name = _("statistic of an hour")
        verbose_name_plural = _("statistics of hours")
        ordering: ClassVar[list[str]] = ["-hour", "queue", "name"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["hour", "queue", "name"], name="wellos_statistic_hour"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.queue} {self.name}"


class DayStatistic(Counts):
    """What happened on one day of UTC: the same counts again, so that a quarter is read quickly."""

    day = models.DateTimeField(_("day"))

    class Meta:
        verbose_name = _("statistic of a day")
        verbose_name_plural = _("statistics of days")
        ordering: ClassVar[list[str]] = ["-day", "queue", "name"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["day", "queue", "name"], name="wellos_statistic_day"),
        ]

    def __str__(self) -> str:
        return f"{self.day:%Y-%m-%d} {self.queue} {self.name}"
