"""Sends Django's ``task_finished``, when the end of a task's job is stored.

A task is started with each attempt, and finished once: when its job has completed, failed for good
or been canceled. A retry makes it ready again, without a signal.

The process that ran the task has its result. For one that was never run, or whose worker died,
another process announces the end: it reads the job from Redis, else its row.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import DatabaseError

from .. import broker, payload, signals
from ..broker import job_hash
from ..definitions import ids
from ..errors import PayloadError
from . import results
from .definition import TaskDefinition, declared_task
from .framework import AnyResult, TaskResultStatus, sender_of, task_finished
from .rows import find_result
from .running import take

logger = logging.getLogger("wellos_jobs")

_FIELDS = (
    job_hash.NAME,
    job_hash.DATA,
    job_hash.CONTEXT,
    job_hash.WORKER,
    job_hash.ERROR,
)


def listen() -> None:
    """Send ``task_finished`` in this process from now on."""
    signals.job_completed.connect(_on_completed, dispatch_uid=__name__)
    signals.job_failed.connect(_on_failed, dispatch_uid=__name__)
    signals.job_canceled.connect(_on_canceled, dispatch_uid=__name__)
    signals.job_retried.connect(_on_interrupted, dispatch_uid=__name__)
    signals.job_snoozed.connect(_on_interrupted, dispatch_uid=__name__)


def _on_interrupted(*, job_id: str, **_: Any) -> None:
    take(job_id)


def _on_completed(*, job_id: str, at: datetime, **_: Any) -> None:
    if (run := take(job_id)) is None:
        return
    results.update(run.result, status=TaskResultStatus.SUCCESSFUL, finished_at=at)
    task_finished.send_robust(sender_of(run.result), task_result=run.result)


def _on_failed(*, job_id: str, name: str, queue: str, at: datetime, **_: Any) -> None:
    run = take(job_id)
    if run is None:
        _send_of_other(job_id, name, queue, at, canceled=False)
        return
    if run.returned_well:
        # The function has done its work: its result cannot be stored, or its transaction was open.
        run.result.errors.append(_error_in_redis(job_id, queue))
    _send_failed(run.result, at, run.error)


def _on_canceled(*, job_id: str, name: str, queue: str, at: datetime, **_: Any) -> None:
    run = take(job_id)
    if run is None:
        _send_of_other(job_id, name, queue, at, canceled=True)
    else:
        if run.returned_well:
            run.result.errors.append(results.canceled())
        _send_failed(run.result, at, run.error)


def _send_failed(result: AnyResult, at: datetime, error: BaseException | None) -> None:
    """Send the signal while the error is being handled: Django's receiver logs its traceback."""
    results.update(result, status=TaskResultStatus.FAILED, finished_at=at, _return_value=None)
    if error is None:
        task_finished.send_robust(sender_of(result), task_result=result)
        return
    try:
        raise error
    except BaseException:  # it is over, and was stored: SystemExit and the like end nothing here
        task_finished.send_robust(sender_of(result), task_result=result)


# --- a task that this process has not run ---------------------------------------------------------


def _send_of_other(job_id: str, name: str, queue: str, at: datetime, *, canceled: bool) -> None:
    definition = declared_task(name)
    if definition is None:
        return
    try:
        result = _in_redis(job_id, queue, definition, canceled=canceled) or find_result(job_id)
    except (broker.Error, DatabaseError, PayloadError) as error:
        logger.warning("job=%s: task_finished is not sent, as it cannot be read: %s", job_id, error)
        return
    if result is not None:
        _send_failed(result, at, None)


def _in_redis(
    job_id: str, queue: str, definition: TaskDefinition, *, canceled: bool
) -> AnyResult | None:
    """Return the result of a task whose job Redis has: it may be newer than the row."""
    found = job_hash.read(broker.client(queue), job_id, _FIELDS)
    if not found[job_hash.NAME]:
        return None

    context: Mapping[str, Any] = json.loads(found[job_hash.CONTEXT] or "{}")
    stored = json.loads(found[job_hash.DATA])[3]
    origin = results.Origin.of(definition.task, context)
    task = results.as_enqueued(definition.task, origin, queue)
    result = results.new(task, origin, job_id, payload.mask(stored))

    key = ids.parse_id(job_id)
    results.update(
        result,
        enqueued_at=ids.moment_of(key) if key else None,
        errors=[results.canceled() if canceled else results.task_error("", found[job_hash.ERROR])],
        worker_ids=[name for name in [found[job_hash.WORKER]] if name],
    )
    return result


def _error_in_redis(job_id: str, queue: str) -> Any:
    try:
        found = job_hash.read(broker.client(queue), job_id, (job_hash.ERROR,))
    except broker.Error:
        found = {job_hash.ERROR: ""}
    return results.task_error("", found[job_hash.ERROR])
