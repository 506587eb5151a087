"""Four levels of urgency for the jobs of the queue ``tasks``, by the names that callers know.

The project declares what is done under each name, in an app's ``jobs.py``:

    @job("user-action", queue="tasks")
    def user_action(**data): ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import JobHandle, JobOptions, JobQueue, Priority

QUEUE = "tasks"
CLEANUP_DELAY = 60.0
"""Seconds before a clean-up starts: what is being worked on has ended by then."""


def add_critical_task(data: Mapping[str, Any], *, organization: str | None = None) -> JobHandle:
    """Enqueue ``critical-task``, before everything else."""
    return _add(
        "critical-task", data, JobOptions(priority=Priority.CRITICAL, organization=organization)
    )


def add_user_action(data: Mapping[str, Any], *, organization: str | None = None) -> JobHandle:
    """Enqueue ``user-action``, for which a person is waiting."""
    return _add("user-action", data, JobOptions(priority=Priority.HIGH, organization=organization))


def add_background_sync(data: Mapping[str, Any], *, organization: str | None = None) -> JobHandle:
    """Enqueue ``background-sync``."""
    return _add(
        "background-sync", data, JobOptions(priority=Priority.NORMAL, organization=organization)
    )


def add_cleanup(data: Mapping[str, Any], *, organization: str | None = None) -> JobHandle:
    """Enqueue ``cleanup``, to start in a minute and after everything else."""
    return _add(
        "cleanup",
        data,
        JobOptions(priority=Priority.LOW, delay=CLEANUP_DELAY, organization=organization),
    )


def _add(name: str, data: Mapping[str, Any], options: JobOptions) -> JobHandle:
    return JobQueue(QUEUE).enqueue(name, data, options)
