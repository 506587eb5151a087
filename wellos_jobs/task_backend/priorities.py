"""Django's priorities, -100 to 100, as the priorities of jobs."""

from __future__ import annotations

from ..states import Priority

URGENT = 50
"""From this priority on a task is critical, and from its negative on downwards bulk."""


def job_priority(priority: int) -> Priority:
    """Return the priority of the job for a task: the higher Django's number, the sooner it runs.

    50 to 100 are CRITICAL, 1 to 49 HIGH, 0 NORMAL, -1 to -49 LOW, -50 to -100 BULK.
    """
    if priority >= URGENT:
        return Priority.CRITICAL
    if priority > 0:
        return Priority.HIGH
    if priority == 0:
        return Priority.NORMAL
    return Priority.LOW if priority > -URGENT else Priority.BULK
