"""The rota of a process that does several things in turn: each is due again after a time of its own."""

from __future__ import annotations

import time


class Rota:
    """When each duty is due next. A duty that was never done is due at once."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def is_due(self, duty: str, every: float) -> bool:
        """Tell whether a duty is due; if so, it is due again in ``every`` seconds."""
        now = time.monotonic()
        if now < self._next.get(duty, 0.0):
            return False
        self._next[duty] = now + every
        return True

    def hasten(self, duty: str) -> None:
        """Make a duty due at once."""
        self._next.pop(duty, None)
