"""Growing pauses between attempts."""

from __future__ import annotations


class GrowingPause:
    """Pauses in seconds: ``first``, then ``factor`` times longer each time, at most ``longest``."""

    def __init__(self, first: float, longest: float, factor: float = 2.0) -> None:
        self._first = first
        self._longest = longest
        self._factor = factor
        self._next = first

    def next(self) -> float:
        """Return how long to pause now; the next pause is longer."""
        pause = self._next
        self._next = min(pause * self._factor, self._longest)
        return pause

    def reset(self) -> None:
        """An attempt has succeeded: begin with ``first`` again."""
        self._next = self._first
