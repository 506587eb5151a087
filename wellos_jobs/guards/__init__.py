"""Guards: what may keep a job from being made or started. One file an option type."""

from .limits import Concurrency, RateLimit
from .unique import Unique

__all__ = ["Concurrency", "RateLimit", "Unique"]
