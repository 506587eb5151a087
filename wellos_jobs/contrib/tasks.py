"""Enqueue tasks of four priorities to the queue ``tasks``.

The project declares a job for each of the names, in an app's ``jobs.py``:

    @job("user-action", queue="tasks")
    def user_action(**data): ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import JobHandle, JobOptions, JobQueue, Priority

QUEUE = "tasks"
CLEANUP_DELAY = 60.0
"""Seconds before a cleanup starts, so that current work can finish first."""


def add_critical_task(data: Mapping[str, Any], *, organization: str | None = None) -> JobHandle:
    """Enqueue ``critical-task`` with priority CRITICAL."""
    return _add(
        "critical-task", data, JobOptions(priority=Priority.CRITICAL, organization=organization)
    )


def add_user_action(data: Mapping[str, Any], *, organization: str | None = None) -> JobHandle:
    """Enqueue ``user-action`` with priority HIGH, for work that a user waits for."""
    return _add("user-action", data, JobOptions(priority=Priority.HIGH, organization=organization))


def add_background_sync(data: Mapping[str, Any], *, organization: str | None = None) -> JobHandle:
    """Enqueue ``background-sync`` with priority NORMAL."""
    return _add(
        "background-sync", data, JobOptions(priority=Priority.NORMAL, organization=organization)
    )


def add_cleanup(data: Mapping[str, Any], *, organization: str | None = None) -> JobHandle:
    """Enqueue ``cleanup`` with priority LOW, to start in ``CLEANUP_DELAY`` seconds."""
    return _add(
        "cleanup",
        data,
        JobOptions(priority=Priority.LOW, delay=CLEANUP_DELAY, organization=organization),
    )


def _add(name: str, data: Mapping[str, Any], options: JobOptions) -> JobHandle:
    return JobQueue(QUEUE).enqueue(name, data, options)
