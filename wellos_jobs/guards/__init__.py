"""Guards: what may keep a job from being made or started. One file an option type."""

from .breaker import CircuitBreaker
from .limits import Concurrency, RateLimit
from .unique import Unique

__all__ = ["CircuitBreaker", "Concurrency", "RateLimit", "Unique"]
