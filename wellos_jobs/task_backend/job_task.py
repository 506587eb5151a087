"""JobTask, a task with options of this package, and ``@task``, which declares one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .framework import AnyTask, Task, task_backends
from .options import changeable, checked, only_declared

_DJANGO_FIELDS = frozenset(one.name for one in dataclasses.fields(Task))


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class JobTask(AnyTask):
    """A task of a ``JobsBackend``. ``options`` are those of ``@job``, and of a job's ``using``."""

    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __init__(self, *, options: Mapping[str, Any] | None = None, **given: Any) -> None:
        """Take Django's fields, and options of this package in ``options`` or by keyword.

        Raises:
            BadOption: an option is unknown or invalid.
            InvalidTask: the backend refuses the task.
        """
        own = {name: given.pop(name) for name in _DJANGO_FIELDS & given.keys()}
        owner = getattr(own.get("func"), "__qualname__", "task")

        # Before Django's fields: the last of them has the backend check the task.
        object.__setattr__(self, "options", checked(owner, {**(options or {}), **given}))
        Task.__init__(self, **own)

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> JobTask:
        """Return the task with other options: Django's, those of ``JobOptions``, and guards.

        Raises:
            BadOption: an option is unknown or invalid, or can only be declared.
            InvalidTask: the backend refuses the task.
        """
        given = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
        }
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if options:
            merged = {**self.options, **changeable(f"{self.name}.using", options)}
            changes["options"] = merged
        return dataclasses.replace(self, **changes)


def task(
    function: Callable[..., Any] | None = None,
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: bool = False,
    **options: Any,
) -> Any:
    """Declare a function as a task, with Django's options and those of ``@job``.

    Django's own ``@task`` declares the same tasks; before Django 6.1 it takes no other options.
    The task of a backend that is none of ours is Django's own, and leaves our options out: so an
    app that uses them also runs where a project has chosen another backend.

    Raises:
        BadOption: an option is unknown or invalid.
        InvalidTask: the backend refuses the task.
    """

    def declare(func: Callable[..., Any]) -> AnyTask:
        kind = task_backends[backend].task_class
        declared = only_declared(func.__qualname__, options)
        return kind(
            func=func,
            priority=priority,
            queue_name=queue_name,
            backend=backend,
            takes_context=takes_context,
            run_after=None,
            **(declared if issubclass(kind, JobTask) else {}),
        )

    return declare if function is None else declare(function)
