"""A task as a declared job: workers run the tasks that are declared when they start, no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..definitions import registry
from ..definitions.definition import JobDefinition
from ..definitions.validation import define
from .definition import TaskDefinition, declared_task
from .framework import AnyTask, InvalidTask
from .options import DECLARED
from .priorities import job_priority
from .running import as_function


def options_of(task: AnyTask) -> Mapping[str, Any]:
    """Return a task's options of this package: only a ``JobTask`` has any."""
    return getattr(task, "options", {})


def define_task(task: AnyTask, defaults: Mapping[str, Any]) -> TaskDefinition:
    """Return the job of a task, not yet registered. ``defaults`` are options of its backend.

    Raises:
        BadOption: an option is invalid.
        InvalidTask: the function's path cannot be the name of a job.
    """
    options = {**defaults, **options_of(task)}
    declared = {name: value for name, value in options.items() if name in DECLARED}
    declared["queue"], declared["priority"] = task.queue_name, job_priority(task.priority)

    if not task.module_path[:1].isalnum() or len(task.module_path) > 180:
        raise InvalidTask(
            f"{task.module_path!r} cannot be the name of a job: the path of the function must have "
            "at most 180 characters and begin with a letter"
        )
    definition = define(task.module_path, as_function(task), **declared)

    names = [field.name for field in dataclasses.fields(JobDefinition)]
    values = {name: getattr(definition, name) for name in names}
    return TaskDefinition(**values, task=task, defaults=defaults)


def definition_of(task: AnyTask, defaults: Mapping[str, Any]) -> TaskDefinition:
    """Return the job of a task; that of its function is declared, if it is not yet.

    What ``using`` has changed counts for the job that is returned only, not for the declared one.

    Raises: as ``define_task``.
    """
    found = declared_task(task.module_path)
    if found is None or found.task.func is not task.func:
        found = _declare(task, defaults)
    elif found.task.backend == task.backend and found.defaults != defaults:
        found = _declare(found.task, defaults)  # TASKS has changed since
    return found if found.task is task else define_task(task, defaults)


def _declare(task: AnyTask, defaults: Mapping[str, Any]) -> TaskDefinition:
    definition = define_task(task, defaults)
    registry.register(definition)
    return definition
