"""The registry of declared jobs, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DuplicateJobName, UnknownJob, suggestion
from .definition import JobDefinition

_jobs: dict[str, JobDefinition] = {}
_failed_imports: dict[str, str] = {}


def register(definition: JobDefinition) -> None:
    """Add a job. The same function again (a reloaded module) replaces the earlier declaration.

    Raises:
        DuplicateJobName: another function has this name.
    """
    other = _jobs.get(definition.name)
    if other is not None and other.path != definition.path:
        raise DuplicateJobName(
            f"Two functions are declared as job {definition.name!r}: "
            f"{other.path} and {definition.path}; rename one of them"
        )
    _jobs[definition.name] = definition


def get(name: str) -> JobDefinition:
    """Return the job with this name.

    Raises:
        UnknownJob: no ``@job`` declares it. The message suggests the closest name.
    """
    definition = _jobs.get(name)
    if definition is None:
        hint = suggestion(name, _jobs, "jobs")
        failed = "".join(
            f". The jobs of app {app!r} cannot be imported: {error}"
            for app, error in _failed_imports.items()
        )
        raise UnknownJob(
            f"No job is declared under the name {name!r}{hint}; "
            f"declare it with @job in an app's jobs.py{failed}"
        )
    return definition


def find(name: str) -> JobDefinition | None:
    """Return the job with this name, or None."""
    return _jobs.get(name)


def all_jobs() -> list[JobDefinition]:
    """Return all declared jobs, sorted by name."""
    return sorted(_jobs.values(), key=lambda definition: definition.name)


def versions() -> dict[str, int]:
    """Return the version of the data that each declared job takes, by name."""
    return {definition.name: definition.version for definition in all_jobs()}


def digest() -> str:
    """Return a digest of what this process knows: names, versions and parameters of all jobs."""
    found = hashlib.blake2b(digest_size=8)
    for job in all_jobs():
        parameters = job.parameters
        known, required = sorted(parameters.known), sorted(parameters.required)
        found.update(repr((job.name, job.version, known, required, parameters.takes_any)).encode())
    return found.hexdigest()


def note_failed_import(app: str, error: Exception) -> None:
    """Note that the jobs of an app are unknown, or not all known, because of an error."""
    _failed_imports[app] = f"{type(error).__name__}: {error}"


def failed_imports() -> dict[str, str]:
    """Return the apps whose jobs cannot be imported, each with its error."""
    return dict(_failed_imports)


@contextmanager
def isolated() -> Iterator[None]:
    """Undo, at the end of the block, all declarations made inside it: for tests."""
    before, failed_before = dict(_jobs), dict(_failed_imports)
    try:
        yield
    finally:
        _jobs.clear()
        _jobs.update(before)
        _failed_imports.clear()
        _failed_imports.update(failed_before)
