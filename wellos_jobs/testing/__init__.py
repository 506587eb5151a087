"""Test a project's jobs without Redis: see docs/testing.md.

For test code only: nothing else of the app imports this package. Jobs are run by the code of the
worker, in the test's own process, and their rows follow as in production.
"""

from __future__ import annotations

from typing import Any

from ..broker.kept_away import real_redis
from .captured import CapturedJobs, EnqueuedJob, captured_jobs
from .cases import JobsTestMixin
from .clock import MovedClock, moved_clock
from .direct_call import DirectRun, job_context
from .errors import JobFailed, NeverDone
from .running import drain, eager

__all__ = [  # noqa: RUF022  # the last one is imported when it is asked for
    "CapturedJobs",
    "DirectRun",
    "EnqueuedJob",
    "JobFailed",
    "JobsTestMixin",
    "MovedClock",
    "NeverDone",
    "captured_jobs",
    "drain",
    "eager",
    "job_context",
    "moved_clock",
    "real_redis",
    "TaskBackendConformance",
]


def __getattr__(name: str) -> Any:
    if name != "TaskBackendConformance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .task_backend_conformance import TaskBackendConformance

    return TaskBackendConformance
