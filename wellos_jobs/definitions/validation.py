"""Checks a declaration when its module is imported: name, function and options of ``@job``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from ..cron import Cron
from ..errors import BadOption, suggestion
from ..states import Priority
from .definition import JobDefinition, Limit
from .durations import in_seconds
from .limits import RateLimit, check_fields, fields_of
from .unique import Unique

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,179}")
MAX_VERSION = 32_767
"""The highest version that the column of a row holds."""
_OPTIONS = tuple(field.name for field in dataclasses.fields(JobDefinition))[2:]


def define(name: str, function: Callable[..., Any], **options: Any) -> JobDefinition:
    """Check a declaration and return it, not yet registered.

    Raises:
        BadOption: the name, the function or an option is invalid. The message names the job, the
            value and the fix.
    """
    check_name(name)
    for option in options:
        if option not in _OPTIONS:
            hint = suggestion(option, _OPTIONS, "options")
            raise BadOption(f"Job {name!r}: unknown option {option!r}{hint}")

    try:
        _check_function(function)
        for option, check in _CHECKS.items():
            if option in options:
                options[option] = check(options[option])

        definition = JobDefinition(name, function, **options)
        policy = definition.policy
        _check_upgrade(definition)
        _check_sensitive(definition)
        _check_keys(definition)
    except ValueError as error:
        raise BadOption(f"Job {name!r}: {error}") from error

    return dataclasses.replace(definition, retry_on=policy.retry_on, discard_on=policy.discard_on)


def check_name(name: object) -> None:
    """Check that a job could have this name.

    Raises:
        BadOption: it is not a valid job name.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadOption(
            f"{name!r} is not a valid job name: use at most 180 letters, digits and . _ : / - "
            "and begin with a letter or digit"
        )


# --- function and parameters ----------------------------------------------------------------------


def _check_function(function: Any) -> None:
    qualname = getattr(function, "__qualname__", None)
    if isinstance(function, type) or not callable(function) or not isinstance(qualname, str):
        raise ValueError(f"{function!r} is not a function: put @job on a function of a module")
    if "<" in qualname:
        raise ValueError(
            f"{qualname} is a local function or a lambda, which workers cannot import: "
            "define it at the top level of a module"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError(
            f"{qualname} is a generator, and calling one runs nothing: return a list instead"
        )


def _check_upgrade(definition: JobDefinition) -> None:
    """Check that data of each older version can be brought to the current one."""
    version, steps = definition.version, definition.upgrade
    for step in range(1, version):
        if step not in steps:
            raise ValueError(
                f"version is {version}, and upgrade has no step from {step} to {step + 1}: add "
                f"upgrade={{{step}: function}}, which makes data of version {step + 1} from data "
                f"of version {step}"
            )
    if beyond := [step for step in steps if step >= version]:
        raise ValueError(
            f"upgrade has a step from {beyond[0]} to {beyond[0] + 1}, and version is {version}: "
            f"give version={beyond[0] + 1}, or leave the step out"
        )


def _check_sensitive(definition: JobDefinition) -> None:
    parameters = definition.parameters
    if parameters.takes_any:
        return

    for name in definition.sensitive:
        if name not in parameters.known:
            hint = suggestion(name, parameters.known, "parameters")
            raise ValueError(f"sensitive has the unknown parameter {name!r}{hint}")


def _check_keys(definition: JobDefinition) -> None:
    parameters = definition.parameters
    guards: list[Limit | Unique] = [*definition.limits]
    if definition.unique is not None:
        guards.append(definition.unique)
    for guard in guards:
        check_fields(guard.key, parameters.known, parameters.takes_any)

    for limit in definition.limits:
        if secret := fields_of(limit.key) & set(definition.sensitive):
            raise ValueError(
                f"key {limit.key!r} contains the sensitive argument {min(secret)!r}, and keys of "
                "limits are stored as plain text: use another argument"
            )


# --- options --------------------------------------------------------------------------------------


def _queue(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"queue is {value!r}: give the name of a queue in RQ_QUEUES")
    return value


def _priority(value: Any) -> Priority:
    if not isinstance(value, Priority):
        choices = ", ".join(f"Priority.{priority.name}" for priority in Priority)
        raise ValueError(f"priority is {value!r}: use one of {choices}")
    return value


def _timeout(value: float | timedelta | None) -> float | None:
    return None if value is None else in_seconds("timeout", value, least=0.001)


def _sensitive(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ValueError(f"sensitive is the text {value!r}: give a tuple of names, ({value!r},)")
    if not isinstance(value, Iterable):
        raise ValueError(f"sensitive is {value!r}: give a tuple of argument names")
    return tuple(value)


def _schedule(value: Any) -> Cron | None:
    if value is not None and not isinstance(value, Cron):
        raise ValueError(
            f"schedule is {value!r}: give a Cron, such as Cron('0 8 * * *', tz='America/New_York')"
        )
    return value


def _unique(value: Any) -> Unique | None:
    if value is not None and not isinstance(value, Unique):
        raise ValueError(f"unique is {value!r}: give a Unique(...), or leave it out")
    return value


def _limits(value: Any) -> tuple[Limit, ...]:
    given = [value] if isinstance(value, Limit) else value
    if not isinstance(given, Iterable) or not all(isinstance(limit, Limit) for limit in given):
        raise ValueError(
            f"limits is {value!r}: give a list of Concurrency, RateLimit and CircuitBreaker"
        )

    limits: list[Limit] = []
    for limit in given:
        limits += limit.each() if isinstance(limit, RateLimit) else [limit]
    return tuple(limits)


def _version(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_VERSION:
        raise ValueError(f"version is {value!r}: give a whole number from 1 to {MAX_VERSION}")
    return value


def _upgrade(value: Any) -> dict[int, Callable[..., Any]]:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"upgrade is {value!r}: give a dict of functions by the version they begin with, such "
            "as {1: function}"
        )
    for step, function in value.items():
        if isinstance(step, bool) or not isinstance(step, int) or step < 1:
            raise ValueError(f"upgrade has the key {step!r}: give the version it begins with")
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise ValueError(
                f"upgrade[{step}] is {function!r}: give a plain function that takes the data as a "
                "dict and returns a dict"
            )
    return dict(value)


def _manual(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"manual is {value!r}: give True or False")
    return value


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "queue": _queue,
    "priority": _priority,
    "timeout": _timeout,
    "sensitive": _sensitive,
    "schedule": _schedule,
    "unique": _unique,
    "limits": _limits,
    "version": _version,
    "upgrade": _upgrade,
    "manual": _manual,
}
"""Returns the clean value of an option, or raises ValueError. ``RetryPolicy`` checks the rest."""
