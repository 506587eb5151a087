"""Counts by minute, hour and day: one table each, for the same columns."""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import ExactCharField


class Counts(models.Model):
    """What happened to the jobs of one name in one queue in a span of time; how long it is, a subclass says.

    ``wait_histogram`` and ``run_histogram`` count jobs by the buckets of
    ``wellos_jobs.statistics``.
    """

    begins_at = models.DateTimeField(_("begins"))
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

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        abstract = True
        ordering: ClassVar[list[str]] = ["-begins_at", "queue", "name"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["begins_at", "queue", "name"], name="wellos_%(class)s_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.begins_at:%Y-%m-%d %H:%M} {self.queue} {self.name}"


class JobStatistic(Counts):
    """What happened in one minute."""

    class Meta(Counts.Meta):
        verbose_name = _("statistic")
        verbose_name_plural = _("statistics")


class HourStatistic(Counts):
    """What happened in one hour of UTC: the same counts again, so that a week is read quickly."""

    class Meta(Counts.Meta):
        verbose_name = _("statistic of an hour")
        verbose_name_plural = _("statistics of hours")


class DayStatistic(Counts):
    """What happened on one day of UTC: the same counts again, so that a quarter is read quickly."""

    class Meta(Counts.Meta):
        verbose_name = _("statistic of a day")
        verbose_name_plural = _("statistics of days")
