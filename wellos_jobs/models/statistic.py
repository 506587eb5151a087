"""Counts by minute, hour and day: one table each, for the same columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import ExactCharField
from .rows import Row

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds in seconds of the histogram's buckets; one more bucket holds what is longer."""


class StatisticRow(Row):
    """What happened to the jobs of one name in one queue, in a span of time set by the subclass.

    ``wait_histogram`` and ``run_histogram`` count jobs by ``BUCKETS``.
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


class JobStatistic(StatisticRow):
    """What happened in one minute."""

    class Meta(StatisticRow.Meta):
        verbose_name = _("statistic")
        verbose_name_plural = _("statistics")


class HourStatistic(StatisticRow):
    """What happened in one hour of UTC: the same counts again, so a week is quick to read."""

    class Meta(StatisticRow.Meta):
        verbose_name = _("hourly statistic")
        verbose_name_plural = _("hourly statistics")


class DayStatistic(StatisticRow):
    """What happened on one day of UTC: the same counts again, so a quarter is quick to read."""

    class Meta(StatisticRow.Meta):
        verbose_name = _("daily statistic")
        verbose_name_plural = _("daily statistics")


@dataclass(frozen=True)
class Span:
    """A time span that one row covers: its model and its length."""

    model: type[StatisticRow]
    length: timedelta

    def begin(self, at: datetime) -> datetime:
        """Return the beginning of the span that contains ``at``."""
        seconds = self.length.total_seconds()
        return datetime.fromtimestamp(at.timestamp() // seconds * seconds, tz=UTC)


MINUTE = Span(JobStatistic, timedelta(minutes=1))
HOUR = Span(HourStatistic, timedelta(hours=1))
DAY = Span(DayStatistic, timedelta(days=1))


def sum_histograms(histograms: Iterable[Sequence[int]]) -> list[int]:
    """Return the sum of histograms, bucket by bucket."""
    columns = zip(*filter(None, histograms), strict=True)
    return [sum(column) for column in columns] or [0] * (len(BUCKETS) + 1)


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """Return the upper bound in seconds of the bucket that holds the percentile.

    None: it lies above the last bound, or the histogram is empty.
    """
    wanted = share * sum(histogram)
    seen = 0
    for number, bound in zip(histogram, BUCKETS, strict=False):
        seen += number
        if seen and seen >= wanted:
            return bound
    return None
