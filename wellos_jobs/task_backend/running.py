"""Runs a task as the function of its job, with its context and Django's ``task_started``."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import DatabaseError
from django.utils import timezone

from .. import payload
from ..definitions import ids
from ..enqueueing.context import CurrentJob, current_job
from ..payload import failures
from ..payload.redaction import MASK
from . import results
from .arguments import data_signature, least_by_position, signature_of, to_call
from .definition import declared_task
from .framework import (
    AnyResult,
    AnyTask,
    TaskContext,
    TaskResultStatus,
    normalize_json,
    sender_of,
    task_started,
)

logger = logging.getLogger("wellos_jobs")


@dataclass(slots=True)
class Run:
    """One attempt of a task in this process."""

    result: AnyResult
    sensitive: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    error: BaseException | None = None
    returned_well: bool = False
    """Whether the function has returned: what fails now is the rest of the job's end."""

    def failed(self, error: BaseException) -> None:
        """Note the error of the run; whether it is the end of the task, the worker decides."""
        secrets: list[str] = []
        if self.sensitive:
            secrets = payload.secrets_in(payload.encode(self.data, sensitive=self.sensitive))
        told = failures.describe(error, secrets)

        self.result.errors.append(results.task_error(told["error_class"], told["traceback"]))
        # An error may show secrets, and receivers log it.
        self.error = None if secrets else error

    def returned(self, value: Any) -> Any:
        """Note what the function has returned; return it as the job's result.

        A value that is not of JSON's types stays as it is: jobs can store more of them than Django
        asks for, and what they cannot store fails the task.
        """
        with contextlib.suppress(TypeError, ValueError):
            value = normalize_json(value)
        results.update(self.result, _return_value=value)
        self.returned_well = True
        return value


_runs: dict[str, Run] = {}
"""The last run of each job, until its end is announced. Runs that lost their claim stay."""
_MOST_RUNS = 100
_lock = threading.Lock()


def take(job_id: str) -> Run | None:
    """Return the last run of a job in this process, if its end has not been announced, and forget
    it."""
    with _lock:
        return _runs.pop(job_id, None)


# --- a run ----------------------------------------------------------------------------------------


def as_function(task: AnyTask) -> Callable[..., Any]:
    """Return the function of a task's job, which takes all arguments by name."""
    signature = signature_of(task)

    def call_of(run: Run, data: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = to_call(signature, data, least_by_position(signature, data))
        context = [TaskContext(task_result=run.result)] if task.takes_context else []
        return [*context, *args], kwargs

    def run_task(**data: Any) -> Any:
        run = _begin(task, data, current_job())
        task_started.send_robust(sender_of(run.result), task_result=run.result)
        args, kwargs = call_of(run, data)
        try:
            return run.returned(task.func(*args, **kwargs))
        except BaseException as error:
            run.failed(error)
            raise

    async def run_async_task(**data: Any) -> Any:
        run = await sync_to_async(_begin)(task, data, current_job())
        await task_started.asend_robust(sender_of(run.result), task_result=run.result)
        args, kwargs = call_of(run, data)
        try:
            return run.returned(await task.func(*args, **kwargs))
        except BaseException as error:
            run.failed(error)
            raise

    chosen = run_async_task if iscoroutinefunction(task.func) else run_task
    function: Any = functools.wraps(task.func)(chosen)
    function.__signature__ = data_signature(signature)
    return function  # type: ignore[no-any-return]


def _begin(task: AnyTask, data: Mapping[str, Any], job: CurrentJob) -> Run:
    """Make the result of a task whose job begins to run."""
    definition = declared_task(job.name)
    sensitive = definition.sensitive if definition else ()
    now = timezone.now()
    earlier = _earlier_attempts(job)

    result = _result_of_run(task, job, _shown(data, sensitive))
    results.update(
        result,
        status=TaskResultStatus.RUNNING,
        started_at=earlier.started_at or now,
        last_attempted_at=now,
        errors=earlier.errors,
        worker_ids=[*earlier.worker_ids, job.worker],
    )

    run = Run(result, sensitive, data)
    with _lock:
        while len(_runs) >= _MOST_RUNS:
            del _runs[next(iter(_runs))]
        _runs[job.id] = run
    return run


def _result_of_run(task: AnyTask, job: CurrentJob, shown: Mapping[str, Any]) -> AnyResult:
    origin = results.Origin.of(task, job.context)
    enqueued = results.as_enqueued(task, origin, job.queue)
    result = results.new(enqueued, origin, job.id, shown)

    job_id = ids.parse_id(job.id)
    results.update(result, enqueued_at=ids.moment_of(job_id) if job_id else None)
    return result


def _earlier_attempts(job: CurrentJob) -> results.Earlier:
    """Return what earlier attempts have left; a first attempt needs no query.

    Attempts that the ledger has not stored yet, or that a database which is down does not tell, are
    counted without a worker's name: the number of the attempt is right.
    """
    if job.attempt <= 1 and not job.replays:
        return results.Earlier.of(())

    from ..models import JobAttempt

    rows = JobAttempt.objects.using(job.database).filter(job__pk=job.id).order_by("ended_at", "pk")
    try:
        known = list(rows)
    except DatabaseError as error:
        logger.warning("job=%s: its earlier attempts cannot be read: %s", job.id, error)
        known = []

    earlier = results.Earlier.of(known)
    told = sum(attempt.replay == job.replays for attempt in known)
    earlier.worker_ids.extend([""] * (job.attempt - 1 - told))
    return earlier


def _shown(data: Mapping[str, Any], sensitive: tuple[str, ...]) -> dict[str, Any]:
    """Return arguments for a result: plain JSON, the sensitive ones masked."""
    open_data = {name: value for name, value in data.items() if name not in sensitive}
    masked = {name: MASK for name in data if name in sensitive}
    shown = payload.mask(payload.encode(open_data)) | masked
    return {name: shown[name] for name in data}
