"""``@job``: declares a function as a job, to be called, enqueued or passed on with its data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from ..definitions import registry
from ..definitions.definition import JobDefinition
from ..definitions.validation import define
from .enqueue import JobOptions, build, build_bound
from .handle import JobHandle
from .insertion import insert

P = ParamSpec("P")
R = TypeVar("R")


class Job(Generic[P, R]):
    """A declared job. Calling it runs the function at once, as plain Python."""

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
        """Enqueue the job once for each dict of arguments, all or none."""
        return Prepared(self, JobOptions()).enqueue_bulk(rows)

    def using(self, **options: Any) -> Prepared:
        """Set options for the next enqueue, by keyword: see ``JobOptions``.

        Raises:
            BadOption: an option is unknown or invalid.
        """
        return Prepared(self, JobOptions.of(f"{self.name}.using", options))

    def with_data(self, **data: Any) -> JobCall:
        """Return the job with its data, not enqueued: for callbacks, flows and schedules.

        Raises:
            TypeError: the data does not match the job's parameters.
        """
        if "batch_id" in self.definition.parameters.known and "batch_id" not in data:
            # The batch adds it when the job is its callback.
            self.definition.bind((), {**data, "batch_id": ""})
            return JobCall(self, data)

        return JobCall(self, self.definition.bind((), data))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job with options, ready to be enqueued."""

    job: Job[..., Any]
    options: JobOptions

    def enqueue(self, *args: Any, **kwargs: Any) -> JobHandle:
        """Enqueue the job with these arguments and the options."""
        definition = self.job.definition
        data = definition.bind(args, kwargs)
        return insert([build_bound(definition.name, data, self.options, definition)])[0]

    def enqueue_bulk(self, rows: Iterable[Mapping[str, Any]]) -> list[JobHandle]:
        """Enqueue the job once for each dict of arguments, all or none."""
        definition = self.job.definition
        return insert([build(definition.name, row, self.options, definition) for row in rows])


@dataclass(frozen=True, slots=True)
class JobCall:
    """A job and its data, not yet enqueued."""

    job: Job[..., Any]
    data: Mapping[str, Any]


def job(name: str, **options: Any) -> Callable[[Callable[P, R]], Job[P, R]]:
    """Declare a function as the job ``name``. Use it in your app's ``jobs.py``.

    The options are the fields of ``JobDefinition``: queue, priority, max_attempts, backoff,
    timeout (seconds), sensitive (arguments whose values are encrypted), retry_on and discard_on
    (exception classes), schedule, unique, limits, version and upgrade (functions from the data of
    older versions to the next one), and manual.

    Raises:
        BadOption: an option is unknown or invalid.
        DuplicateJobName: another function has this name.
    """

    def declare(function: Callable[P, R]) -> Job[P, R]:
        definition = define(name, function, **options)
        registry.register(definition)
        return Job(function, definition)

    return declare
