"""Circles: jobs that would wait for one another, and so for ever. They are refused when they are enqueued."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import BadOption
from ..states import BatchState, JobState

if TYPE_CHECKING:
    from ..models import JobRecord

CHUNK = 500


def refuse(records: Sequence[JobRecord], database: str) -> None:
    """Refuse a new job that needs a callback of its own batch, itself or by way of others that wait.

    The callback waits until the batch is done, and so for that job. A flow has no such circle in
    itself, since its jobs are new and those they need come before them. No query where no job of a
    batch needs another.

    Raises:
        BadOption: it names the job, the batch and the callback.
    """
    needy = [record for record in records if record.batch_id is not None and record.needs]
    batch_of = _callbacks(
        {record.batch_id for record in needy if record.batch_id is not None}, database
    )
    if not batch_of:
        return
    new = {record.pk: record.needs for record in records}
    together = {needed for record in needy for needed in record.needs}
    if batch_of.keys().isdisjoint(_all_needs(together, new, database)):
        return
    for record in needy:
        for callback in _all_needs(record.needs, new, database) & batch_of.keys():
            batch, name = batch_of[callback]
            if batch == record.batch_id:
                raise BadOption(
                    f"Job {record.name!r} is of batch {name!r} and needs {callback}, a callback of that batch: "
                    "each would wait for the other for ever"
                )


def _callbacks(
    batches: Iterable[uuid.UUID], database: str
) -> dict[uuid.UUID, tuple[uuid.UUID, str]]:
    """Return the callbacks of batches that are not done, with the batch and its name."""
    from ..models import Batch

    wanted = list(batches)
    rows = (
        Batch.objects.using(database).filter(pk__in=wanted).exclude(state=BatchState.DONE)
        if wanted
        else ()
    )
    return {
        callback: (row.pk, row.name)
        for row in rows
        for callback in (row.on_complete_id, row.on_success_id)
        if callback
    }


def _all_needs(
    needs: Iterable[uuid.UUID], new: Mapping[uuid.UUID, Sequence[uuid.UUID]], database: str
) -> set[uuid.UUID]:
    """Return what jobs need, what that needs in turn, and so on, as far as it waits."""
    from ..models import JobDependency

    edges = JobDependency.objects.using(database).filter(job__state=JobState.BLOCKED)
    found: set[uuid.UUID] = set()
    frontier = set(needs)
    while frontier:
        found |= frontier
        further = {needed for one in frontier for needed in new.get(one, ())}
        asked = sorted(frontier)
        for start in range(0, len(asked), CHUNK):
            further.update(
                edges.filter(job_id__in=asked[start : start + CHUNK]).values_list(
                    "needs_id", flat=True
                )
            )
        frontier = further - found
    return found
