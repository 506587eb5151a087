"""Interval timer: which periodic task of a process is due."""

from __future__ import annotations

import time


class IntervalTimer:
    """When each periodic task is due next. A task that has never run is due at once."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def is_due(self, task: str, every: float) -> bool:
        """Return whether a task is due. If so, it is due again in ``every`` seconds."""
        now = time.monotonic()
        if now < self._next.get(task, 0.0):
            return False

        self._next[task] = now + every
        return True

    def make_due(self, task: str) -> None:
        """Make a task due at once."""
        self._next.pop(task, None)
