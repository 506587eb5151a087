"""Schedule rows become jobs: declared schedules, ticks, the clock, rq-scheduler's entries.

Imports ``cron``, ``enqueueing``, ``broker``, ``processes`` and the models. Users import the
functions below; ``Cron`` and ``Every`` declare a schedule.
"""

from __future__ import annotations

from .api import (
    REPORT_JOB,
    Cron,
    Every,
    remove_schedule,
    run_now,
    schedule_organization_reports,
    synchronize,
    update_schedule,
)

__all__ = [
    "REPORT_JOB",
    "Cron",
    "Every",
    "remove_schedule",
    "run_now",
    "schedule_organization_reports",
    "synchronize",
    "update_schedule",
]
