"""The arguments of a task: given by position or name, stored by name as the data of its job."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from .framework import AnyTask

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def signature_of(task: AnyTask) -> inspect.Signature:
    """Return the signature that callers of a task see: without the context."""
    signature = inspect.signature(task.func)
    if not task.takes_context:
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def data_signature(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature of a function that takes the same arguments, all of them by name."""
    return signature.replace(parameters=[_by_name(one) for one in signature.parameters.values()])


def _by_name(parameter: inspect.Parameter) -> inspect.Parameter:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD)
    if parameter.kind is parameter.VAR_POSITIONAL:
        return parameter.replace(kind=parameter.KEYWORD_ONLY, default=())
    return parameter


def to_data(task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a task by name.

    Raises:
        TypeError: they do not fit its function. The message names the task and the argument.
    """
    signature = signature_of(task)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{task.module_path}: {error}") from None

    data: dict[str, Any] = {}
    rest: Mapping[str, Any] = {}
    for name, value in given.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            rest = value
        else:
            data[name] = list(value) if kind is inspect.Parameter.VAR_POSITIONAL else value

    by_position = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL)
    }
    if twice := by_position & rest.keys():
        raise TypeError(
            f"{task.module_path}: the name of argument {min(twice)!r} is also that of a parameter "
            "that is filled by position: rename one of them"
        )
    return {**data, **rest}


def to_call(
    signature: inspect.Signature, data: Mapping[str, Any], by_position: int
) -> tuple[list[Any], dict[str, Any]]:
    """Return data as the arguments of a call, the first ``by_position`` of them by position."""
    rest = dict(data)
    args: list[Any] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += rest.pop(name, [])
        elif parameter.kind in _POSITIONAL and len(args) < by_position:
            if name not in rest:
                break  # what follows would get the wrong place
            args.append(rest.pop(name))
    return args, rest


def least_by_position(signature: inspect.Signature, data: Mapping[str, Any]) -> int:
    """Return how many arguments a call must give by position, whatever its caller chose."""
    parameters = list(signature.parameters.values())
    least = sum(one.kind is one.POSITIONAL_ONLY for one in parameters)
    for place, one in enumerate(parameters):
        if one.kind is one.VAR_POSITIONAL and data.get(one.name):
            return place
    return least
