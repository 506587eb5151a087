"""How the last runs of schedules went, for many schedules in one query. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from .. import cron
from ..errors import CronError
from ..models import JobRecord, Schedule
from ..states import JobState

MOST = 10
"""How many runs of a schedule are told."""
MOST_ROWS = 2_000


@dataclass
class PastRuns:
    """The last runs of one schedule, oldest first: how many seconds each took (None: it has not ended), its state."""

    seconds: list[float | None] = field(default_factory=list)
    states: list[JobState] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return self.states.count(JobState.FAILED)

    def __len__(self) -> int:
        return len(self.states)


def last_runs(rows: QuerySet[JobRecord], schedules: Sequence[Schedule]) -> dict[int, PastRuns]:
    """Return the last runs of each schedule that has run, among some jobs. One query.

    Each schedule is asked for the time in which its line makes ``MOST`` runs, so that one that runs
    each minute does not bring its whole past; of an uneven line there may be fewer.
    """
    asked = Q()
    for schedule in schedules:
        since = _since(schedule)
        if since is not None:
            asked |= Q(schedule=schedule.pk, created_at__gte=since)
    if not asked:
        return {}
    columns = ("schedule_id", "state", "started_at", "finished_at")
    found: dict[int, PastRuns] = {}
    for pk, state, started, finished in (
        rows.filter(asked).order_by("-created_at").values_list(*columns)[:MOST_ROWS]
    ):
        runs = found.setdefault(pk, PastRuns())
        if len(runs) < MOST:
            runs.states.insert(0, JobState(state))
            runs.seconds.insert(
                0, (finished - started).total_seconds() if started and finished else None
            )
    return found


def _since(schedule: Schedule) -> datetime | None:
    """Return a time before which the last runs of a schedule need not be sought; None if it has not run."""
    if schedule.last_run_at is None:
        return None
    try:
        first, second = cron.next_runs(schedule.cron, "UTC", schedule.last_run_at, 2)
    except (CronError, ValueError):
        return schedule.last_run_at - timedelta(days=MOST)
    return schedule.last_run_at - (second - first) * (MOST + 1)
