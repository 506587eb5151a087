"""The last runs of schedules, for many schedules in one query. Read-only."""

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
"""Runs of one schedule at most."""
MOST_ROWS = 2_000


@dataclass
class PastRuns:
    """The last runs of one schedule, oldest first: seconds (None: not ended) and state of each."""

    seconds: list[float | None] = field(default_factory=list)
    states: list[JobState] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return self.states.count(JobState.FAILED)

    def __len__(self) -> int:
        return len(self.states)


def last_runs(rows: QuerySet[JobRecord], schedules: Sequence[Schedule]) -> dict[int, PastRuns]:
    """Return the last runs of each schedule that has run, among some jobs. One query.

    Only the time span in which a schedule's cron line makes ``MOST`` runs is read, so that a
    schedule that runs every minute does not load its whole history. An irregular line may yield
    fewer runs.
    """
    wanted = Q()
    for schedule in schedules:
        since = _since(schedule)
        if since is not None:
            wanted |= Q(schedule=schedule.pk, created_at__gte=since)
    if not wanted:
        return {}

    columns = ("schedule_id", "state", "started_at", "finished_at")
    newest = rows.filter(wanted).order_by("-created_at").values_list(*columns)[:MOST_ROWS]
    found: dict[int, PastRuns] = {}
    for pk, state, started, finished in newest:
        runs = found.setdefault(pk, PastRuns())
        if len(runs) == MOST:
            continue
        seconds = (finished - started).total_seconds() if started and finished else None
        runs.states.insert(0, JobState(state))
        runs.seconds.insert(0, seconds)
    return found


def _since(schedule: Schedule) -> datetime | None:
    """Return the time from which on to look for the last runs; None if the schedule never ran."""
    if schedule.last_run_at is None:
        return None
    try:
        first, second = cron.next_runs(schedule.cron, "UTC", schedule.last_run_at, 2)
    except (CronError, ValueError):
        return schedule.last_run_at - timedelta(days=MOST)
    return schedule.last_run_at - (second - first) * (MOST + 1)
