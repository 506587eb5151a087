"""The declared jobs: what ``@job`` says about a function, checked at import, found by name."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import difflib
import functools
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from asgiref.sync import iscoroutinefunction

from ..cron import Cron
from ..errors import BadOption, DuplicateJobName, UnknownJob
from ..states import Priority
from .breaker import CircuitBreaker
from .limits import Concurrency, RateLimit, check_fields, fields_of
from .retry import DEFAULT_BACKOFF, Backoff, RetryPolicy, in_seconds
from .unique import Unique

Limit = Concurrency | RateLimit | CircuitBreaker
GUARDS = (Concurrency, RateLimit, CircuitBreaker)
MOST_NAMES = 12
"""How many names a message lists for whoever has mistyped one."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,179}")


@dataclass(frozen=True)
class Parameters:
    """The arguments a function takes, worked out once so that binding is cheap."""

    positional: tuple[str, ...]
    """Names that may also be given by position, in order."""
    known: frozenset[str]
    required: tuple[str, ...]
    takes_any: bool
    """Whether the function has ``**kwargs``."""
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        """Read a function's signature.

        Raises:
            ValueError: it has positional-only parameters or ``*args``, which named data cannot
                fill.
        """
        positional, known, required, takes_any = [], [], [], False
        defaults: dict[str, Any] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise ValueError(
                    f"parameter {name!r} is positional-only: a job's data are named arguments"
                )
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise ValueError(
                    f"it takes *{name}: a job's data are named arguments, so name them"
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
    """One declared job. ``timeout`` is seconds; None leaves it to the queue and the settings."""

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
    """When the job runs by itself: becomes a row that people may change."""
    unique: Unique | None = None
    limits: tuple[Limit, ...] = ()

    @functools.cached_property
    def parameters(self) -> Parameters:
        """The arguments the function takes."""
        return Parameters.of(self.function)

    @functools.cached_property
    def policy(self) -> RetryPolicy:
        """What happens after a failed attempt."""
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
        """Return the arguments by name, without defaults: those of the code that runs the job count.

        Raises:
            TypeError: an argument is missing, unknown or given twice; the text names job and
                argument.
        """
        parameters = self.parameters
        data = dict(kwargs)
        if args:
            self._place(args, data)
        if not parameters.takes_any and not data.keys() <= parameters.known:
            raise TypeError(self._unknown(data))
        for name in parameters.required:
            if name not in data:
                raise TypeError(f"{self.name}: missing argument {name!r}")
        return data

    def call(self, data: Mapping[str, Any]) -> Any:
        """Run the function, an ``async def`` one in a loop of its own, and return its result."""
        if self.is_async:
            return asyncio.run(self.function(**data))
        return self.function(**data)

    def _place(self, args: tuple[Any, ...], data: dict[str, Any]) -> None:
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
        name = next(name for name in data if name not in self.parameters.known)
        return f"{self.name}: there is no argument {name!r}{_hint(name, self.parameters.known)}"


_jobs: dict[str, JobDefinition] = {}
_OPTIONS = tuple(field.name for field in dataclasses.fields(JobDefinition))[2:]


def define(name: str, function: Callable[..., Any], **options: Any) -> JobDefinition:
    """Check a declaration and return it, not yet registered.

    Raises:
        BadOption: the name, the function or an option cannot be meant; the text names job, value
            and mend.
    """
    check_name(name)
    for option in options:
        if option not in _OPTIONS:
            raise BadOption(f"Job {name!r}: there is no option {option!r}{_hint(option, _OPTIONS)}")
    try:
        _check_function(function)
        for option, clean in _CLEAN.items():
            if option in options:
                options[option] = clean(options[option])
        definition = JobDefinition(name, function, **options)
        policy = definition.policy
        _check_sensitive(definition)
        _check_keys(definition)
    except ValueError as error:
        raise BadOption(f"Job {name!r}: {error}") from error
    return dataclasses.replace(definition, retry_on=policy.retry_on, discard_on=policy.discard_on)


def check_name(name: object) -> None:
    """Check that a job could have this name.

    Raises:
        BadOption: none could.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadOption(
            f"{name!r} is no job name: use at most 180 letters, digits and . _ : / - and begin with a letter or digit"
        )


def register(definition: JobDefinition) -> None:
    """Make a job findable by its name. The same function again (a reload) takes the old one's place.

    Raises:
        DuplicateJobName: another function has the name.
    """
    other = _jobs.get(definition.name)
    if other is not None and other.path != definition.path:
        raise DuplicateJobName(
            f"Two functions are declared as job {definition.name!r}: {other.path} and {definition.path}; rename one"
        )
    _jobs[definition.name] = definition


def get(name: str) -> JobDefinition:
    """Return the job of this name.

    Raises:
        UnknownJob: nobody declared it; the text names the near miss.
    """
    definition = _jobs.get(name)
    if definition is None:
        hint = _hint(name, _jobs) if _jobs else ""
        raise UnknownJob(
            f"No job is declared under the name {name!r}{hint}; declare it with @job in an app's jobs.py"
        )
    return definition


def find(name: str) -> JobDefinition | None:
    """Return the job of this name, or None."""
    return _jobs.get(name)


def all_jobs() -> list[JobDefinition]:
    """Return every declared job, by name."""
    return sorted(_jobs.values(), key=lambda definition: definition.name)


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Forget, at the end of the block, every job declared inside it: for tests."""
    before = dict(_jobs)
    try:
        yield
    finally:
        _jobs.clear()
        _jobs.update(before)


def _check_function(function: Any) -> None:
    qualname = getattr(function, "__qualname__", None)
    if isinstance(function, type) or not callable(function) or not isinstance(qualname, str):
        raise ValueError(f"{function!r} is not a function")
    if "<" in qualname:
        raise ValueError(
            f"{qualname} is a local function or a lambda: workers find only functions of a module"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError(
            f"{qualname} is a generator: calling it runs nothing, so return a list instead"
        )


def _check_sensitive(definition: JobDefinition) -> None:
    parameters = definition.parameters
    for name in definition.sensitive:
        if not parameters.takes_any and name not in parameters.known:
            raise ValueError(
                f"sensitive names {name!r}, which is no parameter{_hint(name, parameters.known)}"
            )


def _check_keys(definition: JobDefinition) -> None:
    parameters = definition.parameters
    guards = [*definition.limits, *([definition.unique] if definition.unique else [])]
    for guard in guards:
        check_fields(guard.key, parameters.known, parameters.takes_any)
    for limit in definition.limits:
        if secret := fields_of(limit.key) & set(definition.sensitive):
            raise ValueError(
                f"key {limit.key!r} shows the sensitive {min(secret)!r}: keys of limits are plain text"
            )


def _queue(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"queue is {value!r}: give the name of a queue in RQ_QUEUES")
    return value


def _priority(value: Any) -> Priority:
    if not isinstance(value, Priority):
        raise ValueError(
            f"priority is {value!r}: use Priority.{', Priority.'.join(one.name for one in Priority)}"
        )
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
    given = (value,) if isinstance(value, GUARDS) else value
    if not isinstance(given, Iterable) or not all(isinstance(one, GUARDS) for one in given):
        raise ValueError(
            f"limits is {value!r}: give a list of Concurrency, RateLimit and CircuitBreaker"
        )
    return tuple(
        itertools.chain.from_iterable(
            one.each() if isinstance(one, RateLimit) else [one] for one in given
        )
    )


_CLEAN: Mapping[str, Callable[[Any], Any]] = {
    "queue": _queue,
    "priority": _priority,
    "timeout": _timeout,
    "sensitive": _sensitive,
    "schedule": _schedule,
    "unique": _unique,
    "limits": _limits,
}


def _hint(name: object, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    if close:
        return f": did you mean {close[0]!r}?"
    shown = ", ".join(names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"; there is {shown}{more}" if names else ""
