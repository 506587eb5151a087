"""Access to Redis: connections, keys, Lua scripts, events, queues, claims, RQ compatibility.

Imports ``conf``, ``payload`` and ``states``; never the models. Users import ``LaneQueue`` from
``wellos_jobs.queues``.
"""

from __future__ import annotations

from .connection import (
    BLOCK_SECONDS,
    Client,
    Error,
    OutOfMemory,
    RedisClock,
    Unavailable,
    address,
    briefly,
    client,
    redis_time,
    refusals_as_unavailable,
    rq_time,
    run,
    run_within,
    source_client,
    source_of,
    sources,
    text,
)
from .kept_away import KeptAway

__all__ = [
    "BLOCK_SECONDS",
    "Client",
    "Error",
    "KeptAway",
    "OutOfMemory",
    "RedisClock",
    "Unavailable",
    "address",
    "briefly",
    "client",
    "redis_time",
    "refusals_as_unavailable",
    "rq_time",
    "run",
    "run_within",
    "source_client",
    "source_of",
    "sources",
    "text",
]
