"""Cron lines, intervals, time zones and daylight saving time: when a schedule runs, in words too.

Pure: imports only ``errors`` and ``states``. Users import ``Cron``, ``Every``, ``next_runs`` and
``describe``.
"""

from __future__ import annotations

from .runs import (
    Cron,
    Every,
    describe,
    edges,
    iterate,
    next_runs,
    parse,
    previous_run,
    shortest_gap,
    zone,
)

__all__ = [
    "Cron",
    "Every",
    "describe",
    "edges",
    "iterate",
    "next_runs",
    "parse",
    "previous_run",
    "shortest_gap",
    "zone",
]
