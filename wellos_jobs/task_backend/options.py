"""The options of this package that a task may have beside Django's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..definitions.definition import JobDefinition
from ..enqueueing.enqueue import JobOptions
from ..errors import BadOption, suggestion

DJANGO_NAMES: Mapping[str, str] = {
    "name": "the name of a task is the path of its function",
    "queue": "Django calls it queue_name",
    "run_at": "Django calls it run_after",
}
"""Options of jobs that tasks have under another name."""

DJANGO_OPTIONS = frozenset({"priority", "queue_name", "run_after", "backend", "takes_context"})
_OWN = {"function", "priority", *DJANGO_NAMES}
DECLARED = frozenset(field.name for field in dataclasses.fields(JobDefinition)) - _OWN
"""Options that a declaration may have, as ``@job`` has them."""
ENQUEUED = frozenset(field.name for field in dataclasses.fields(JobOptions)) - _OWN
"""Options that ``using`` may set, as that of a job does."""
BY_GUARD = frozenset({"unique", "limits"})
"""Options of a declaration that act when a task is enqueued: ``using`` may set them, too."""
OF_BACKEND = DECLARED | {"database"}
"""Options of all tasks of a backend, in its ``OPTIONS``."""


def checked(owner: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task, if all of them have known names.

    Raises:
        BadOption: one is unknown. The message suggests the closest name.
    """
    for name in options:
        _check_name(owner, name, DECLARED | ENQUEUED)
    return dict(options)


def changeable(owner: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options for ``using``, if all of them can still be set there.

    Raises:
        BadOption: one is unknown, or acts in the worker, which knows only the declaration.
    """
    for name in options:
        _check_name(owner, name, DECLARED | ENQUEUED)
        if name not in ENQUEUED | BY_GUARD:
            raise BadOption(
                f"{owner}: {name!r} acts in the worker, which knows only the declaration: "
                f"give it to the decorator, @task({name}=...)"
            )
    return dict(options)


def only_declared(owner: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options for the decorator, if all of them concern the task and not one enqueue.

    Raises:
        BadOption: one is unknown, or belongs to ``using``.
    """
    for name in options:
        _check_name(owner, name, DECLARED | ENQUEUED)
        if name not in DECLARED:
            raise BadOption(
                f"{owner}: {name!r} is chosen with each enqueue: use .using({name}=...)"
            )
    return dict(options)


def _check_name(owner: str, name: str, known: frozenset[str]) -> None:
    if name in DJANGO_NAMES:
        raise BadOption(f"{owner}: unknown option {name!r}: {DJANGO_NAMES[name]}")
    if name not in known:
        hint = suggestion(name, known | DJANGO_OPTIONS, "options")
        raise BadOption(f"{owner}: unknown option {name!r}{hint}")
