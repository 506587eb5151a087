"""Flows and batches: their jobs counted by state. Read-only."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, QuerySet

from ..definitions import ids
from ..models import Batch, JobRecord
from ..states import FINAL_STATES, BatchState, JobState

_ENDINGS = ("completed", "failed", "canceled")


@dataclass(frozen=True)
class Tally:
    """The number of jobs of a group by state; states without jobs are left out."""

    states: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def ended(self) -> int:
        """The number of final jobs."""
        return sum(self.states.get(state, 0) for state in FINAL_STATES)

    @property
    def open(self) -> int:
        """The number of jobs that are not final."""
        return self.total - self.ended

    @property
    def failed(self) -> int:
        return self.states.get(JobState.FAILED, 0)

    @property
    def percent(self) -> int:
        """The percentage of final jobs."""
        return 100 * self.ended // self.total if self.total else 0

    def in_order(self) -> list[tuple[JobState, int]]:
        """Return the states that occur, in the order of the lifecycle."""
        return [(state, self.states[state]) for state in JobState if self.states.get(state)]


@dataclass(frozen=True)
class FlowLine:
    """One flow of a list.

    ``root`` is its topmost job, None once that was pruned; ``begun`` is when the flow was enqueued,
    None for an id without a timestamp.
    """

    id: uuid.UUID
    root: JobRecord | None
    tally: Tally
    begun: datetime | None


def tallies(
    rows: QuerySet[JobRecord], column: str, groups: Collection[uuid.UUID]
) -> dict[uuid.UUID, Tally]:
    """Count the jobs of groups by state, in one query; ``column``: ``batch`` or ``flow_id``."""
    counted: dict[uuid.UUID, dict[str, int]] = {group: {} for group in groups}
    if not groups:
        return {}

    chosen = rows.filter(**{f"{column}__in": groups}).order_by()
    found: Iterable[tuple[uuid.UUID, str, int]] = chosen.values_list(column, "state").annotate(
        number=Count("pk")
    )
    for group, state, number in found:
        counted[group][state] = number
    return {group: Tally(states) for group, states in counted.items()}


def batch_tallies(rows: QuerySet[JobRecord], batches: Sequence[Batch]) -> dict[uuid.UUID, Tally]:
    """Count the jobs of batches by state, in one query.

    The counts of a done batch come from its row, because its jobs are pruned one by one.
    """
    done = {batch.pk: batch for batch in batches if batch.state == BatchState.DONE}
    stored = {
        pk: Tally({state: number for state in _ENDINGS if (number := getattr(batch, state))})
        for pk, batch in done.items()
    }
    return stored | tallies(rows, "batch", [batch.pk for batch in batches if batch.pk not in done])


def newest_flows(
    rows: QuerySet[JobRecord], most: int, before: uuid.UUID | None = None
) -> list[FlowLine]:
    """Return the newest flows of some jobs, older than ``before`` if given. Three queries.

    Flow ids start with a timestamp, so the newest flows are at the end of the index, and the table
    is not grouped to find them.
    """
    flows = rows.filter(flow_id__isnull=False)
    if before is not None:
        flows = flows.filter(flow_id__lt=before)
    newest = flows.order_by("-flow_id").values_list("flow_id", flat=True).distinct()
    chosen = [flow for flow in newest[:most] if flow is not None]
    if not chosen:
        return []

    counted = tallies(rows, "flow_id", chosen)
    roots: dict[uuid.UUID | None, JobRecord] = {}
    for job in (
        rows.filter(flow_id__in=chosen, parent=None)
        .order_by("-pk")
        .defer("data", "result", "error")
    ):
        roots[job.flow_id] = job
    return [FlowLine(flow, roots.get(flow), counted[flow], ids.moment_of(flow)) for flow in chosen]


def speed(tally: Tally, begun: datetime, now: datetime) -> tuple[float, timedelta | None]:
    """Return the jobs that ended per second, and the time the others will take at that rate.

    The time is None while nothing has ended.
    """
    seconds = max((now - begun).total_seconds(), 0.001)
    rate = tally.ended / seconds
    return rate, timedelta(seconds=tally.open / rate) if rate else None


def as_tree(jobs: Iterable[JobRecord]) -> list[tuple[int, JobRecord]]:
    """Return the jobs of a flow with their depth below the root, parents before children."""
    below: dict[uuid.UUID | None, list[JobRecord]] = {}
    known = list(jobs)
    present = {job.pk for job in known}
    for job in known:
        below.setdefault(job.parent_id if job.parent_id in present else None, []).append(job)

    found: list[tuple[int, JobRecord]] = []
    stack = [(0, job) for job in reversed(below.get(None, []))]
    while stack:
        depth, job = stack.pop()
        found.append((depth, job))
        stack += [(depth + 1, child) for child in reversed(below.get(job.pk, []))]
    return found
