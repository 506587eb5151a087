"""``@job``: declare a function as a job, then call it, enqueue it or hand it on with its data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from ..definitions import registry
from ..definitions.registry import JobDefinition
from .enqueue import JobOptions, build
from .handle import JobHandle
from .insertion import insert

P = ParamSpec("P")
R = TypeVar("R")


class Job(Generic[P, R]):
    """A declared job. Calling it runs the function here and now, as plain Python."""

    def __init__(self, function: Callable[P, R], definition: JobDefinition) -> None:
        self.function = function
        self.definition = definition
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job {self.name}>"

    @property
    def name(self) -> str:
        """The job's stable name."""
        return self.definition.name

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle:
        """Enqueue the job with these arguments; see ``wellos_jobs.enqueue``."""
        return Prepared(self, JobOptions()).enqueue(*args, **kwargs)

    def enqueue_bulk(self, rows: Iterable[Mapping[str, Any]]) -> list[JobHandle]:
        """Enqueue the job once for each dict of arguments: all or none."""
        return Prepared(self, JobOptions()).enqueue_bulk(rows)

    def using(self, **options: Any) -> Prepared:
        """Choose options for the next enqueue, by keyword: see ``JobOptions``.

        Raises:
            BadOption: an option does not exist or cannot be meant.
        """
        return Prepared(self, JobOptions.of(f"{self.name}.using", options))

    def with_data(self, **data: Any) -> JobCall:
        """Return the job with its data, not enqueued: for callbacks, flows and schedules.

        Raises:
            TypeError: the data does not fit the job's parameters.
        """
        if "batch_id" in self.definition.parameters.known and "batch_id" not in data:
            self.definition.bind(
                (), {**data, "batch_id": ""}
            )  # a batch fills it in for its callback
            return JobCall(self, data)
        return JobCall(self, self.definition.bind((), data))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job with options, ready to be enqueued."""

    job: Job[..., Any]
    options: JobOptions

    def enqueue(self, *args: Any, **kwargs: Any) -> JobHandle:
        """Enqueue the job with these arguments and the chosen options."""
        definition = self.job.definition
        data = definition.bind(args, kwargs)
        return insert([build(definition.name, data, self.options, definition)])[0]

    def enqueue_bulk(self, rows: Iterable[Mapping[str, Any]]) -> list[JobHandle]:
        """Enqueue the job once for each dict of arguments: all or none."""
        definition = self.job.definition
        return insert([build(definition.name, row, self.options, definition) for row in rows])


@dataclass(frozen=True, slots=True)
class JobCall:
    """A job and its data, not yet enqueued."""

    job: Job[..., Any]
    data: Mapping[str, Any]


def job(name: str, **options: Any) -> Callable[[Callable[P, R]], Job[P, R]]:
    """Declare a function as the job ``name``.

    Options: queue, priority, max_attempts, backoff, timeout (seconds), sensitive (argument names
        whose values are encrypted), retry_on and discard_on (exception classes). Put it on
        functions in your app's ``jobs.py``.

    Raises:
        BadOption: an option does not exist or cannot be meant.
        DuplicateJobName: another function has this name.
    """

    def declare(function: Callable[P, R]) -> Job[P, R]:
        definition = registry.define(name, function, **options)
        registry.register(definition)
        return Job(function, definition)

    return declare
