"""Cron lines, intervals, time zones and daylight saving time: which runs a schedule has, and how it reads in words.

Pure: imports ``errors`` and ``states`` only. Users import ``Cron``, ``Every``, ``next_runs`` and
    ``describe``.
"""

from __future__ import annotations

from .runs import Cron, Every, describe, edges, iterate, next_runs, parse, previous_run, zone

__all__ = [
    "Cron",
    "Every",
    "describe",
    "edges",
    "iterate",
    "next_runs",
    "parse",
    "previous_run",
    "zone",
]
