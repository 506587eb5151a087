"""One declared job: its function, its parameters and its options."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import iscoroutinefunction

from ..cron import Cron
from ..errors import PayloadError, suggestion
from ..states import Priority
from .breaker import CircuitBreaker
from .limits import Concurrency, RateLimit
from .retry import DEFAULT_BACKOFF, Backoff, RetryPolicy
from .unique import Unique

Limit = Concurrency | RateLimit | CircuitBreaker


@dataclass(frozen=True)
class Parameters:
    """The parameters of a function, read once so that binding is cheap."""

    positional: tuple[str, ...]
    """Names of arguments that may also be given by position, in order."""
    known: frozenset[str]
    required: tuple[str, ...]
    takes_any: bool
    """Whether the function has ``**kwargs``."""
    defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        """Read a function's signature.

        Raises:
            ValueError: it has positional-only parameters or ``*args``, which named data cannot
                fill.
        """
        positional: list[str] = []
        known: list[str] = []
        required: list[str] = []
        defaults: dict[str, Any] = {}
        takes_any = False

        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise ValueError(
                    f"parameter {name!r} is positional-only, and a job's data is passed by name: "
                    "remove the / from the signature"
                )
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise ValueError(
                    f"it takes *{name}, and a job's data is passed by name: "
                    f"replace *{name} by named parameters"
                )
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_any = True
                continue

            known.append(name)
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                positional.append(name)
            if parameter.default is parameter.empty:
                required.append(name)
            else:
                defaults[name] = parameter.default

        return cls(tuple(positional), frozenset(known), tuple(required), takes_any, defaults)


@dataclass(frozen=True)
class JobDefinition:
    """A declared job. ``timeout`` is in seconds; None means the queue's, or the default."""

    name: str
    function: Callable[..., Any]
    queue: str = "default"
    priority: Priority = Priority.NORMAL
    max_attempts: int = 3
    backoff: Backoff = DEFAULT_BACKOFF
    timeout: float | None = None
    sensitive: tuple[str, ...] = ()
    """Names of arguments whose values are encrypted at rest."""
    retry_on: tuple[type[BaseException], ...] = ()
    discard_on: tuple[type[BaseException], ...] = ()
    schedule: Cron | None = None
    """When the job runs by itself: becomes a schedule that can be edited in the admin."""
    unique: Unique | None = None
    limits: tuple[Limit, ...] = ()
    version: int = 1
    """The version of the data that the function takes."""
    upgrade: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = field(
        default_factory=dict, hash=False
    )
    """For each older version a function that makes data of the next one from its data."""
    manual: bool = False
    """Whether staff limited to organizations may start the job with data of their own."""

    @functools.cached_property
    def parameters(self) -> Parameters:
        """The parameters of the function."""
        return Parameters.of(self.function)

    @functools.cached_property
    def policy(self) -> RetryPolicy:
        """Decides what happens after a failed attempt."""
        return RetryPolicy(self.max_attempts, self.backoff, self.retry_on, self.discard_on)

    @functools.cached_property
    def path(self) -> str:
        """The dotted path of the function."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @functools.cached_property
    def is_async(self) -> bool:
        """Whether the function is ``async def``."""
        return bool(iscoroutinefunction(self.function))

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name.

        Without defaults: a default counts as it is in the code that runs the job.

        Raises:
            TypeError: an argument is missing, unknown or given twice. The message names the job
                and the argument.
        """
        parameters = self.parameters
        data = dict(kwargs)
        if args:
            self._add_positional(args, data)

        if not parameters.takes_any and not data.keys() <= parameters.known:
            raise TypeError(self._unknown(data))
        for name in parameters.required:
            if name not in data:
                raise TypeError(f"{self.name}: missing argument {name!r}")
        return data

    def upgraded(self, data: Mapping[str, Any], version: int) -> dict[str, Any]:
        """Return the arguments that data of an older version stand for, decoded.

        Raises:
            PayloadError: an upgrade function returned no dict. And what such a function raises.
        """
        upgraded = dict(data)
        for step in range(version, self.version):
            found = self.upgrade[step](upgraded)
            if not isinstance(found, dict):
                raise PayloadError(
                    f"{self.name}: upgrade[{step}] returned {type(found).__name__}: it must return "
                    f"the data of version {step + 1} as a dict"
                )
            upgraded = found
        return upgraded

    def call(self, data: Mapping[str, Any]) -> Any:
        """Run the function and return its result; ``async def`` in an event loop of its own."""
        if self.is_async:
            return asyncio.run(self.function(**data))
        return self.function(**data)

    def _add_positional(self, args: tuple[Any, ...], data: dict[str, Any]) -> None:
        names = self.parameters.positional
        if len(args) > len(names):
            raise TypeError(
                f"{self.name}: takes {len(names)} arguments by position, {len(args)} were given"
            )

        for name, value in zip(names, args, strict=False):
            if name in data:
                raise TypeError(f"{self.name}: argument {name!r} is given twice")
            data[name] = value

    def _unknown(self, data: Mapping[str, Any]) -> str:
        known = self.parameters.known
        name = next(name for name in data if name not in known)
        return f"{self.name}: unknown argument {name!r}{suggestion(name, known, 'arguments')}"
