"""A simulated bookkeeping system that can be slow, busy, broken, or drop connections."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any


class Mood(Enum):
    """The response to a call."""

    FINE = "200"
    SLOW = "200, late"
    BUSY = "429 with Retry-After"
    BROKEN = "500"
    AWAY = "503"
    HANGS_UP = "stores the entry, then closes the connection without a response"

    @property
    def status(self) -> int:
        """The HTTP status; 0 without a response."""
        statuses = {
            Mood.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
            Mood.BROKEN: HTTPStatus.INTERNAL_SERVER_ERROR,
            Mood.AWAY: HTTPStatus.SERVICE_UNAVAILABLE,
        }
        return 0 if self is Mood.HANGS_UP else int(statuses.get(self, HTTPStatus.OK))


@dataclass
class _Spell:
    mood: Mood
    calls: float
    seconds: float
    until: float = 0.0

    def is_over(self, now: float) -> bool:
        """Return whether it is over. Its time starts with the first call."""
        self.until = self.until or now + self.seconds
        return self.calls < 1 or now > self.until


@dataclass(frozen=True)
class Call:
    """One call: its time (Unix time), ``Idempotency-Key`` and response."""

    at: float
    key: str
    mood: Mood


class Books:
    """Stores posted entries, one for each ``Idempotency-Key``, and responds as configured."""

    def __init__(self, moods: Iterable[Mood] = ()) -> None:
        self.calls: list[Call] = []
        self.entries: dict[str, Any] = {}
        self._spells = deque(_Spell(mood, 1, float("inf")) for mood in moods)
        self._lock = threading.Lock()

    def misbehave(
        self, mood: Mood, *, calls: int | None = None, seconds: float | None = None
    ) -> None:
        """Respond in this mood for a number of calls, for some seconds, or until ``behave``."""
        endless = float("inf")
        with self._lock:
            spell = _Spell(
                mood, endless if calls is None else calls, endless if seconds is None else seconds
            )
            self._spells.append(spell)

    def behave(self) -> None:
        """Respond normally again."""
        with self._lock:
            self._spells.clear()

    def post(self, key: str, entry: Any) -> Mood:
        """Record a call and return the response. The entry is stored unless that is an error."""
        with self._lock:
            mood = self._next_mood()
            self.calls.append(Call(time.time(), key, mood))
            if mood in (Mood.FINE, Mood.SLOW, Mood.HANGS_UP):
                self.entries.setdefault(key, entry)
            return mood

    def statuses(self) -> list[int]:
        """Return the statuses of all responses, in order; 0 without a response."""
        return [call.mood.status for call in self.calls]

    def _next_mood(self) -> Mood:
        while self._spells and self._spells[0].is_over(time.time()):
            self._spells.popleft()
        if not self._spells:
            return Mood.FINE
        self._spells[0].calls -= 1
        return self._spells[0].mood
