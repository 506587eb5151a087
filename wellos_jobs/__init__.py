"""Background jobs for Django: RQ runs them, Redis carries them, the database remembers them.

Everything here can be imported before the apps are ready.
"""

from __future__ import annotations

from .batches import Batch
from .context import CurrentJob, current_job, report_progress
from .declare import Job, job
from .enqueue import JobOptions, JobQueue, enqueue, enqueue_bulk
from .flows import Flow
from .guards import CircuitBreaker, Concurrency, RateLimit, Unique
from .handles import JobHandle
from .retry import Discard, Retry, RetryPolicy, Snooze, exponential, fixed
from .states import JobState, Priority
from .triggers import enqueue_on

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "CircuitBreaker",
    "Concurrency",
    "CurrentJob",
    "Discard",
    "Flow",
    "Job",
    "JobHandle",
    "JobOptions",
    "JobQueue",
    "JobState",
    "Priority",
    "RateLimit",
    "Retry",
    "RetryPolicy",
    "Snooze",
    "Unique",
    "current_job",
    "enqueue",
    "enqueue_bulk",
    "enqueue_on",
    "exponential",
    "fixed",
    "job",
    "report_progress",
]
