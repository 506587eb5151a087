"""Jobs like one: how the last ones of its name went, and how long runs take. For people; reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from ..models import JobRecord, JobStatistic
from ..models.statistic import percentile, sum_histograms
from ..states import JobState

SAMPLE = 100
"""How many of the last jobs are counted."""
SHOWN = 8
WINDOW = timedelta(hours=24)


@dataclass(frozen=True)
class Alike:
    """The last jobs of one name, newest first, and how many of the last ``SAMPLE`` ended which way."""

    jobs: Sequence[JobRecord]
    counted: int
    completed: int
    failed: int

    @property
    def success(self) -> float | None:
        """Percent of those that completed or failed; None if there were none."""
        ended = self.completed + self.failed
        return 100 * self.completed / ended if ended else None


@dataclass(frozen=True)
class Times:
    """Percentiles in seconds over the last 24 hours, with the number of runs they come from.

    They come from the buckets of a histogram: each is the upper bound of the bucket it falls in.
    None: longer than the last bound.
    """

    runs: int
    p50: float | None
    p95: float | None


def alike(job: JobRecord, rows: QuerySet[JobRecord]) -> Alike:
    """Return the last jobs with the name of ``job``, itself left out, of those that ``rows`` has. One query."""
    columns = (
        "id",
        "name",
        "state",
        "created_at",
        "enqueued_at",
        "started_at",
        "finished_at",
        "run_at",
        "attempts",
    )
    last = [
        other
        for other in rows.filter(name=job.name).order_by("-created_at").only(*columns)[: SAMPLE + 1]
        if other.pk != job.pk
    ][:SAMPLE]
    states = [other.state for other in last]
    return Alike(
        last[:SHOWN], len(last), states.count(JobState.COMPLETED), states.count(JobState.FAILED)
    )


def run_times(job: JobRecord, database: str | None = None) -> Times | None:
    """Return how long runs of this name in this queue took in the last 24 hours; None if there were none. One query."""
    rows = JobStatistic.objects.using(database) if database else JobStatistic.objects.all()
    since = timezone.now() - WINDOW
    found = rows.filter(name=job.name, queue=job.queue, begins_at__gte=since).order_by()
    total = sum_histograms(found.values_list("run_histogram", flat=True))
    runs = sum(total)
    return Times(runs, percentile(total, 0.5), percentile(total, 0.95)) if runs else None
