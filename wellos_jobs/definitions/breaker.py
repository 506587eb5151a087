"""Circuit breakers: while a dependency is down, its jobs wait instead of failing one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from .durations import positive_seconds
from .http_errors import is_outage
from .limits import check_count

Verdict = Literal["ok", "fail", ""]


@dataclass(frozen=True)
class CircuitBreaker:
    """Holds jobs back while their dependency is down.

    It opens when ``failures`` runs have failed ``within`` seconds: the jobs that name it are then
    parked and use up no attempts. After ``reset`` seconds one job runs as a probe: if it succeeds,
    the breaker closes, else it stays open.

    Jobs that give the same ``name`` share one breaker, across the whole cluster. ``on`` lists the
    exceptions that count; by default failed connections, timeouts and HTTP status 429 or 5xx.
    Other errors do not affect the breaker.

    Raises:
        ValueError: a number is not above 0, or ``name`` or ``on`` is invalid.
    """

    name: str
    failures: int = 5
    within: float | timedelta = 60
    reset: float | timedelta = 30
    on: tuple[type[BaseException], ...] = ()

    key: None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(
                f"CircuitBreaker: name is {self.name!r}: give the name of the dependency"
            )
        check_count("CircuitBreaker", "failures", self.failures)
        positive_seconds("CircuitBreaker", "within", self.within)
        positive_seconds("CircuitBreaker", "reset", self.reset)

        if not isinstance(self.on, tuple):
            raise ValueError(
                f"CircuitBreaker: on is {self.on!r}: give a tuple of exception classes"
            )
        for error in self.on:
            if not (isinstance(error, type) and issubclass(error, BaseException)):
                raise ValueError(f"CircuitBreaker: on has {error!r}: give exception classes only")

    @property
    def id(self) -> str:
        """The breaker's id among the limits."""
        return f"b:{self.name}"

    def wire(self, name: str, data: Mapping[str, Any], organization: str) -> dict[str, Any]:
        """Return the breaker as the Lua scripts read it."""
        return {
            "id": self.id,
            "b": self.failures,
            "within": positive_seconds("CircuitBreaker", "within", self.within),
            "reset": positive_seconds("CircuitBreaker", "reset", self.reset),
        }

    def verdict(self, error: BaseException | None) -> Verdict:
        """Return what the end of a run says about the dependency; '' if nothing."""
        if error is None:
            return "ok"

        counts = isinstance(error, self.on) if self.on else is_outage(error)
        return "fail" if counts else ""
