"""TaskResult as Django defines it: of a job's row, of a new job, and of a run in this process."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .. import errors, payload
from ..states import JobState
from .arguments import least_by_position, signature_of, to_call
from .definition import TaskDefinition
from .framework import AnyResult, AnyTask, TaskError, TaskResult, TaskResultStatus

if TYPE_CHECKING:
    from ..models import JobAttempt, JobRecord

CONTEXT_KEY = "task"
"""The entry of a job's context that says how the task was enqueued."""

STATUS_OF = {
    JobState.WAITING: TaskResultStatus.READY,
    JobState.DELAYED: TaskResultStatus.READY,
    JobState.BLOCKED: TaskResultStatus.READY,
    JobState.ACTIVE: TaskResultStatus.RUNNING,
    JobState.COMPLETED: TaskResultStatus.SUCCESSFUL,
    JobState.FAILED: TaskResultStatus.FAILED,
    JobState.CANCELED: TaskResultStatus.FAILED,
}

_OTHER_ERROR = f"{errors.WellosJobsError.__module__}.{errors.WellosJobsError.__qualname__}"
_STOPPED = f"{errors.JobStopped.__module__}.{errors.JobStopped.__qualname__}"


# --- how it was enqueued --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """How a task was enqueued: what its row's own columns do not say."""

    backend: str
    by_position: int = 0
    """How many arguments were given by position."""
    priority: int | None = None
    """Django's number: the row has the priority of the job."""
    run_after: datetime | None = None
    """What was asked for; the row's ``run_at`` moves with each retry."""

    @classmethod
    def of(cls, task: AnyTask, context: Mapping[str, Any]) -> Origin:
        """Read the context of a job: one that a schedule or an operator made does not say it."""
        stored = context.get(CONTEXT_KEY, {})
        after = stored.get("run_after")
        return cls(
            backend=stored.get("backend", task.backend),
            by_position=stored.get("args", 0),
            priority=stored.get("priority", 0) if stored else None,
            run_after=datetime.fromisoformat(after) if after else None,
        )

    def as_context(self) -> dict[str, Any]:
        """Return what the context of the job stores."""
        found = {
            "backend": self.backend,
            "args": self.by_position,
            "priority": self.priority,
            "run_after": self.run_after.isoformat() if self.run_after else None,
        }
        return {name: value for name, value in found.items() if value}


def as_enqueued(task: AnyTask, origin: Origin, queue: str) -> AnyTask:
    """Return a declared task as it was enqueued.

    Its backend is not asked again: it may have other queues by now, and an operator may have moved
    the job to one that it does not have.
    """
    changes = {
        "queue_name": queue,
        "backend": origin.backend,
        "run_after": origin.run_after,
        "priority": task.priority if origin.priority is None else origin.priority,
    }
    if all(getattr(task, name) == value for name, value in changes.items()):
        return task

    copy = object.__new__(type(task))
    for field in fields(task):
        value = changes.get(field.name, getattr(task, field.name))
        object.__setattr__(copy, field.name, value)
    return copy


# --- results --------------------------------------------------------------------------------------


def new(
    task: AnyTask, origin: Origin, job_id: uuid.UUID | str, data: Mapping[str, Any]
) -> AnyResult:
    """Return the result of a task that has not run. ``data`` is shown as it is."""
    signature = signature_of(task)
    by_position = max(origin.by_position, least_by_position(signature, data))
    args, kwargs = to_call(signature, data, by_position)
    return TaskResult(
        task=task,
        id=str(job_id),
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=args,
        kwargs=kwargs,
        backend=origin.backend,
        errors=[],
        worker_ids=[],
    )


def of_row(
    record: JobRecord, definition: TaskDefinition, attempts: Sequence[JobAttempt] = ()
) -> AnyResult:
    """Return the result of a task from the row of its job, and its attempts in order.

    Sensitive arguments are masked.
    """
    origin = Origin.of(definition.task, record.context)
    task = as_enqueued(definition.task, origin, record.queue)
    result = new(task, origin, record.pk, payload.mask(record.data))

    state = JobState(record.state)
    earlier = Earlier.of(attempts)
    update(
        result,
        status=STATUS_OF[state],
        enqueued_at=record.created_at,
        started_at=earlier.started_at or record.started_at,
        last_attempted_at=record.started_at or earlier.last_attempted_at,
        finished_at=record.finished_at,
        errors=[*earlier.errors, *_end_of(record, state, attempts)],
        worker_ids=[*earlier.worker_ids, *_last_worker(record, state)],
    )
    if state is JobState.COMPLETED:
        update(result, _return_value=payload.decode_result(record.result))
    return result


def update(result: AnyResult, **values: Any) -> None:
    """Set fields of a result, which is frozen for its readers."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the attempts of a job before the current one leave in its result."""

    started_at: datetime | None
    last_attempted_at: datetime | None
    errors: list[TaskError]
    worker_ids: list[str]

    @classmethod
    def of(cls, attempts: Sequence[JobAttempt]) -> Earlier:
        """Read attempts, in order."""
        started = [attempt.started_at for attempt in attempts if attempt.started_at]
        return cls(
            started_at=min(started, default=None),
            last_attempted_at=max(started, default=None),
            errors=[error_of(attempt) for attempt in attempts],
            worker_ids=[attempt.worker for attempt in attempts],
        )


# --- errors ---------------------------------------------------------------------------------------


def error_of(attempt: JobAttempt) -> TaskError:
    """Return the error of an attempt, with a class that can be imported."""
    if not attempt.error_class and not attempt.message:
        return canceled()
    return task_error(attempt.error_class, attempt.traceback or attempt.message)


def task_error(error_class: str, text: str) -> TaskError:
    """Return an error by its stored class and a text, best a traceback."""
    return TaskError(exception_class_path=_importable(error_class), traceback=text)


def canceled() -> TaskError:
    """Return the error of a job that was canceled."""
    return TaskError(exception_class_path=_STOPPED, traceback="The job was canceled")


def _importable(error_class: str) -> str:
    """Return the dotted path of a stored class: rows leave ``builtins`` out."""
    if "." in error_class:
        return error_class
    if hasattr(builtins, error_class):
        return f"builtins.{error_class}"
    if hasattr(errors, error_class):
        return f"{errors.__name__}.{error_class}"
    return _OTHER_ERROR


def _end_of(record: JobRecord, state: JobState, attempts: Sequence[JobAttempt]) -> list[TaskError]:
    """Return the error of a job that ended without an attempt that tells it."""
    if state is JobState.CANCELED and not _tells_end(record, attempts):
        return [canceled()]
    if state is JobState.FAILED and not _tells_end(record, attempts):
        return [task_error("", record.error)]
    return []


def _tells_end(record: JobRecord, attempts: Sequence[JobAttempt]) -> bool:
    last = attempts[-1] if attempts else None
    return last is not None and last.ended_at == record.finished_at


def _last_worker(record: JobRecord, state: JobState) -> list[str]:
    """Return the worker of the attempt that no row of attempts tells, if there is one."""
    return [record.worker] if state in (JobState.ACTIVE, JobState.COMPLETED) else []
