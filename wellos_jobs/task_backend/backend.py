"""JobsBackend: Django's Tasks as jobs of this package."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error

from .. import conf, payload
from ..database import run_on_commit
from ..enqueueing.insertion import insert
from ..errors import ConfigurationError, suggestion
from . import endings, results
from .declaration import definition_of
from .framework import (
    AnyResult,
    AnyTask,
    BaseTaskBackend,
    InvalidTask,
    TaskResultDoesNotExist,
    task_enqueued,
)
from .job_task import JobTask
from .options import OF_BACKEND
from .rows import build_row, find_result

MODULES = "modules"
"""The option that names modules with tasks beside the ``tasks.py`` of the apps."""


class JobsBackend(BaseTaskBackend):
    """Enqueues tasks as jobs: in the caller's transaction, with retries, and results in rows.

    ``OPTIONS``: ``modules``, ``database``, and options of ``@job`` for all tasks of the backend
    that do not declare them.
    """

    task_class = JobTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, dict(params))
        endings.listen()

    @functools.cached_property
    def defaults(self) -> dict[str, Any]:
        """The options of all tasks of this backend that do not declare them."""
        return {name: value for name, value in self.options.items() if name in OF_BACKEND}

    def validate_task(self, task: AnyTask) -> None:
        """Check a task, and declare the job of its function if there is none yet.

        Raises:
            InvalidTask: the function, the queue, the priority or the time is invalid.
            BadOption: an option of this package is invalid.
        """
        super().validate_task(task)
        if task.queue_name not in conf.queues():
            known = suggestion(task.queue_name, conf.queues(), "queues")
            raise InvalidTask(
                f"{task.module_path}: RQ_QUEUES has no queue {task.queue_name!r}{known}"
            )
        definition_of(task, self.defaults)

    def enqueue(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Enqueue a task in the caller's transaction; ``task_enqueued`` is sent on commit.

        A duplicate under ``unique``, or of a chosen ``id``, gives the result of the task that is
        there.

        Raises:
            TypeError: an argument is not of JSON's types, or does not fit the function.
            PayloadError: the arguments are too large.
            BadOption, InvalidTask, UnknownQueue: as ``validate_task``.
        """
        self.validate_task(task)
        definition = definition_of(task, self.defaults)
        record = build_row(task, definition, self.defaults.get("database"), args, kwargs)

        handle = insert([record])[0]
        if handle.duplicate:
            return self.get_result(str(handle))

        origin = results.Origin.of(task, record.context)
        result = results.new(task, origin, record.pk, payload.mask(record.data))
        results.update(result, enqueued_at=record.created_at)
        run_on_commit(handle.database, _announce, type(self), result)
        return result

    def get_result(self, result_id: str) -> AnyResult:
        """Return a result from the row of the task's job: it outlives Redis, until it is pruned.

        Raises:
            TaskResultDoesNotExist: no task of this backend has this id, or its function is not a
                task any more.
        """
        result = find_result(str(result_id))
        if result is None or result.backend != self.alias:
            raise TaskResultDoesNotExist(result_id)
        return result

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Return what is wrong with the backend's entry in ``TASKS``."""
        return [*super().check(**kwargs), *self._queue_errors(), *self._option_errors()]

    def _queue_errors(self) -> list[CheckMessage]:
        try:
            known = conf.queues()
        except ConfigurationError:  # another check reports it
            return []
        return [
            Error(
                f"TASKS[{self.alias!r}] names the queue {name!r}, which RQ_QUEUES does not have"
                f"{suggestion(name, known, 'queues')}.",
                hint='Name queues of RQ_QUEUES in "QUEUES"; an empty list allows all of them.',
                id="wellos_jobs.E016",
            )
            for name in sorted(self.queues - known.keys())
        ]

    def _option_errors(self) -> list[CheckMessage]:
        known = {*OF_BACKEND, MODULES}
        return [
            Error(
                f"TASKS[{self.alias!r}]: unknown option {name!r}"
                f"{suggestion(name, known, 'options')}.",
                hint="OPTIONS takes modules, database and the options of @job.",
                id="wellos_jobs.E017",
            )
            for name in self.options
            if name not in known
        ]


def _announce(backend: type[JobsBackend], result: AnyResult) -> None:
    task_enqueued.send_robust(backend, task_result=result)
