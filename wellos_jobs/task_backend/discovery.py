"""Where the tasks of a project are: workers run those that are declared when they start.

No module is imported because a job names it: else anyone who can write to Redis could have any
module imported.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from django.core.exceptions import ImproperlyConfigured

from .backend import MODULES, JobsBackend
from .declaration import definition_of
from .framework import Task, task_backends

MODULE = "tasks"


def backends() -> list[JobsBackend]:
    """Return the backends in ``TASKS`` that are ours; none if ``TASKS`` is invalid.

    Django's own check reports that.
    """
    try:
        found = task_backends.all()
    except ImproperlyConfigured:
        return []
    return [backend for backend in found if isinstance(backend, JobsBackend)]


def further_modules() -> list[str]:
    """Return the modules that the option ``modules`` names, beside the ``tasks`` of the apps."""
    return [name for backend in backends() for name in backend.options.get(MODULES, ())]


def declare_all(module: ModuleType) -> None:
    """Declare all tasks of a module, and of the modules in it if it is a package.

    Those of other backends, too: ``using(backend=...)`` may send them to ours.
    """
    ours = backends()
    for part in [module, *_submodules(module)]:
        for value in list(vars(part).values()):
            if isinstance(value, Task) and value.func.__module__ == part.__name__:
                backend = next((one for one in ours if one.alias == value.backend), ours[0])
                definition_of(value, backend.defaults)


def _submodules(module: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
        yield import_module(found.name)
