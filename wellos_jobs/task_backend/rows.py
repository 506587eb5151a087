"""The rows of tasks: made by ``enqueue``, read by ``get_result``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..database import job_databases
from ..definitions import ids
from ..enqueueing.enqueue import JobOptions, build_bound
from . import results
from .arguments import to_data
from .declaration import options_of
from .definition import TaskDefinition, declared_task
from .framework import AnyResult, AnyTask, normalize_json
from .options import ENQUEUED
from .priorities import job_priority

if TYPE_CHECKING:
    from ..models import JobRecord


def build_row(
    task: AnyTask,
    definition: TaskDefinition,
    database: str | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> JobRecord:
    """Return the unsaved row of a task. ``database`` is that of the backend's options, if any.

    Raises:
        TypeError: an argument is not of JSON's types, or does not fit the function.
        BadOption: an option is invalid.
        PayloadError: the arguments are too large.
        EncryptionError: there are sensitive arguments and no usable key.
    """
    data = to_data(task, normalize_json(args), normalize_json(kwargs))
    given = {name: value for name, value in options_of(task).items() if name in ENQUEUED}
    options = JobOptions(
        **{"database": database, **given},
        queue=task.queue_name,
        priority=job_priority(task.priority),
        run_at=task.run_after,
    )

    record = build_bound(definition.name, data, options, definition)
    origin = results.Origin(
        backend=task.backend,
        by_position=len(args),
        priority=task.priority,
        run_after=task.run_after,
    )
    record.context[results.CONTEXT_KEY] = origin.as_context()
    return record


def find_result(result_id: str) -> AnyResult | None:
    """Return the result of a task by its id; None if no database that holds jobs has it.

    One query for each database until it is found, and one for its attempts.
    """
    job_id = ids.parse_id(result_id)
    if job_id is None:
        return None

    from ..models import JobAttempt, JobRecord

    for alias in job_databases():
        record = JobRecord.objects.using(alias).filter(pk=job_id).first()
        definition = None if record is None else declared_task(record.name)
        if record is not None and definition is not None and not record.is_foreign:
            attempts = JobAttempt.objects.using(alias).filter(job=record).order_by("ended_at", "pk")
            return results.of_row(record, definition, list(attempts))
    return None
