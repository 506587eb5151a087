"""Circuit breakers: while a dependency is down, its jobs wait instead of failing one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from .limits import above_zero
from .retry import is_outage

Verdict = Literal["ok", "fail", ""]


@dataclass(frozen=True)
class CircuitBreaker:
    """Opens when ``failures`` runs have failed ``within`` seconds: then the jobs that name it are parked, and burn no
    attempts. After ``reset`` seconds one job probes: if it succeeds the breaker closes, else it
    stays open.

    Jobs that give the same ``name`` share it, over the whole cluster. ``on`` says which exceptions
    count; by default failed connections, timeouts and HTTP status 429 or 5xx. Other errors say
    nothing about the dependency.

    Raises:
        ValueError: a number is not above 0, or ``name`` or ``on`` cannot be meant.
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
        if (
            isinstance(self.failures, bool)
            or not isinstance(self.failures, int)
            or self.failures < 1
        ):
            raise ValueError(
                f"CircuitBreaker: failures is {self.failures!r}: it must be a whole number of at least 1"
            )
        for option in ("within", "reset"):
            above_zero("CircuitBreaker", option, getattr(self, option))
        if not isinstance(self.on, tuple):
            raise ValueError(
                f"CircuitBreaker: on is {self.on!r}: give a tuple of exception classes"
            )
        for error in self.on:
            if not (isinstance(error, type) and issubclass(error, BaseException)):
                raise ValueError(
                    f"CircuitBreaker: on has {error!r}: it must hold exception classes"
                )

    @property
    def id(self) -> str:
        """What the breaker is called among the limits."""
        return f"b:{self.name}"

    def wire(self, name: str, data: Mapping[str, Any], organization: str) -> dict[str, Any]:
        """Return the breaker as the scripts read it."""
        within, reset = (
            above_zero("CircuitBreaker", option, getattr(self, option))
            for option in ("within", "reset")
        )
        return {"id": self.id, "b": self.failures, "within": within, "reset": reset}

    def verdict(self, error: BaseException | None) -> Verdict:
        """Say what the end of a run tells about the dependency."""
        if error is None:
            return "ok"
        counts = isinstance(error, self.on) if self.on else is_outage(error)
        return "fail" if counts else ""
