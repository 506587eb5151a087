"""A bookkeeping system on loopback, as a web service is on a bad day: slow, busy, broken, or gone
in mid-answer."""

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
    """How a call is answered."""

    FINE = "200"
    SLOW = "200, late"
    BUSY = "429 with Retry-After"
    BROKEN = "500"
    AWAY = "503"
    HANGS_UP = "does its work, then closes the connection without an answer"

    @property
    def status(self) -> int:
        """The HTTP status; 0 for none."""
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
        """Tell whether it is; the first call that meets it starts its clock."""
        self.until = self.until or now + self.seconds
        return self.calls < 1 or now > self.until


@dataclass(frozen=True)
class Call:
    """One call: when it came (Unix time), its ``Idempotency-Key``, and how it was answered."""

    at: float
    key: str
    mood: Mood


class Books:
    """What has been posted, each entry once by its ``Idempotency-Key``, and how the next calls are
    answered."""

    def __init__(self, moods: Iterable[Mood] = ()) -> None:
        self.calls: list[Call] = []
        self.entries: dict[str, Any] = {}
        self._spells = deque(_Spell(mood, 1, float("inf")) for mood in moods)
        self._lock = threading.Lock()

    def misbehave(
        self, mood: Mood, *, calls: int | None = None, seconds: float | None = None
    ) -> None:
        """Answer so many calls in this mood, or all within so many seconds of the first; with
        neither, until ``behave``.
        """
        endless = float("inf")
        with self._lock:
            spell = _Spell(
                mood, endless if calls is None else calls, endless if seconds is None else seconds
            )
            self._spells.append(spell)

    def behave(self) -> None:
        """Be fine again."""
        with self._lock:
            self._spells.clear()

    def post(self, key: str, entry: Any) -> Mood:
        """Take a call; return how to answer it. The entry is stored unless the answer is an
        error."""
        with self._lock:
            mood = self._next_mood()
            self.calls.append(Call(time.time(), key, mood))
            if mood in (Mood.FINE, Mood.SLOW, Mood.HANGS_UP):
                self.entries.setdefault(key, entry)
            return mood

    def statuses(self) -> list[int]:
        """Return what the calls were answered, in order; 0 where there was no answer."""
        return [call.mood.status for call in self.calls]

    def _next_mood(self) -> Mood:
        while self._spells and self._spells[0].is_over(time.time()):
            self._spells.popleft()
        if not self._spells:
            return Mood.FINE
        self._spells[0].calls -= 1
        return self._spells[0].mood
