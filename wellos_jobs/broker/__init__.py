"""Everything that is said to Redis: connections, keys, Lua scripts, the event stream, queues, claims, RQ compatibility.

Imports ``conf``, ``definitions``, ``payload`` and ``states``; never the database. Users import
``LaneQueue`` from ``wellos_jobs.queues``.
"""

from __future__ import annotations

from .connection import (
    BLOCK_SECONDS,
    Client,
    Error,
    Unavailable,
    client,
    refusals_as_away,
    rq_time,
    run,
    run_within,
    source_client,
    source_of,
    sources,
    text,
)

__all__ = [
    "BLOCK_SECONDS",
    "Client",
    "Error",
    "Unavailable",
    "client",
    "refusals_as_away",
    "rq_time",
    "run",
    "run_within",
    "source_client",
    "source_of",
    "sources",
    "text",
]
