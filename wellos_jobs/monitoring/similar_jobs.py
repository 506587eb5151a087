"""Recent jobs with the same name: success rate and run-time percentiles. Read-only."""

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
"""The number of recent jobs that are counted."""
SHOWN = 8
WINDOW = timedelta(hours=24)


@dataclass(frozen=True)
class SimilarJobs:
    """The newest jobs of one name, and the outcomes of the last ``SAMPLE``."""

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
class RunTimes:
    """Percentiles in seconds over the last 24 hours, and the number of runs.

    Each is the upper bound of a bucket of the histogram; None: above the last bound.
    """

    runs: int
    p50: float | None
    p95: float | None


def similar_jobs(job: JobRecord, rows: QuerySet[JobRecord]) -> SimilarJobs:
    """Return the newest other jobs with the name of ``job`` among ``rows``. One query."""
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
    newest = rows.filter(name=job.name).order_by("-created_at").only(*columns)[: SAMPLE + 1]
    others = [other for other in newest if other.pk != job.pk][:SAMPLE]

    states = [other.state for other in others]
    return SimilarJobs(
        jobs=others[:SHOWN],
        counted=len(others),
        completed=states.count(JobState.COMPLETED),
        failed=states.count(JobState.FAILED),
    )


def run_times(job: JobRecord, database: str | None = None) -> RunTimes | None:
    """Return the run times of this name in this queue; None if nothing ran. One query."""
    rows = JobStatistic.objects.using(database) if database else JobStatistic.objects.all()
    since = timezone.now() - WINDOW
    found = rows.filter(name=job.name, queue=job.queue, begins_at__gte=since).order_by()

    total = sum_histograms(found.values_list("run_histogram", flat=True))
    runs = sum(total)
    return RunTimes(runs, percentile(total, 0.5), percentile(total, 0.95)) if runs else None
