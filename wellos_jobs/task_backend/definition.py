"""The job that a declared task is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..definitions import registry
from ..definitions.definition import JobDefinition
from .framework import AnyTask


@dataclass(frozen=True)
class TaskDefinition(JobDefinition):
    """The job of a task, named by the path of the task's function."""

    task: AnyTask = dataclasses.field(kw_only=True)
    defaults: Mapping[str, Any] = dataclasses.field(kw_only=True, hash=False)
    """The options of the task's backend when it was declared."""


def declared_task(name: str) -> TaskDefinition | None:
    """Return the declared task with this path; None if there is none."""
    found = registry.find(name)
    return found if isinstance(found, TaskDefinition) else None
