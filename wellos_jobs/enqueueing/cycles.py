"""Detects dependency cycles when jobs are enqueued."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import BadOption
from ..states import BatchState, JobState
from .chunks import in_chunks

if TYPE_CHECKING:
    from ..models import JobRecord


def refuse(records: Sequence[JobRecord], database: str) -> None:
    """Refuse a new job that needs a callback of its own batch, directly or through blocked jobs.

    The callback waits until the batch is done, and so for that job. A flow by itself has no cycle,
    since each of its jobs needs only earlier ones. No query if no job of a batch needs another.

    Raises:
        BadOption: there is a cycle. The message names the job, the batch and the callback.
    """
    in_batches = [record for record in records if record.batch_id is not None and record.needs]
    batches = {record.batch_id for record in in_batches if record.batch_id is not None}
    batch_of = _callbacks(batches, database)
    if not batch_of:
        return

    new = {record.pk: record.needs for record in records}
    together = {needed for record in in_batches for needed in record.needs}
    if batch_of.keys().isdisjoint(_all_needs(together, new, database)):
        return

    for record in in_batches:
        for callback in _all_needs(record.needs, new, database) & batch_of.keys():
            batch, name = batch_of[callback]
            if batch == record.batch_id:
                raise BadOption(
                    f"Job {record.name!r} belongs to batch {name!r} and needs {callback}, a "
                    "callback of that batch: each would wait for the other forever; remove one "
                    "of the two"
                )


def _callbacks(
    batches: Iterable[uuid.UUID], database: str
) -> dict[uuid.UUID, tuple[uuid.UUID, str]]:
    """Return the callbacks of batches that are not done, with the batch and its name."""
    from ..models import Batch

    wanted = list(batches)
    if not wanted:
        return {}

    callbacks: dict[uuid.UUID, tuple[uuid.UUID, str]] = {}
    rows = Batch.objects.using(database).filter(pk__in=wanted).exclude(state=BatchState.DONE)
    for row in rows:
        for callback in (row.on_complete_id, row.on_success_id):
            if callback:
                callbacks[callback] = (row.pk, row.name)
    return callbacks


def _all_needs(
    needs: Iterable[uuid.UUID], new: Mapping[uuid.UUID, Sequence[uuid.UUID]], database: str
) -> set[uuid.UUID]:
    """Return what jobs need, what those need in turn, and so on through blocked jobs."""
    from ..models import JobDependency

    edges = JobDependency.objects.using(database).filter(job__state=JobState.BLOCKED)
    found: set[uuid.UUID] = set()
    frontier = set(needs)
    while frontier:
        found |= frontier
        further = {needed for one in frontier for needed in new.get(one, ())}
        for chunk in in_chunks(sorted(frontier)):
            rows = edges.filter(job_id__in=chunk)
            further.update(rows.values_list("needs_id", flat=True))
        frontier = further - found
    return found
