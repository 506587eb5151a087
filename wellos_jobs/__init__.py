"""Background jobs for Django: RQ runs them, Redis carries them, the database remembers them.

The public names to declare and enqueue jobs. They can be imported before the apps are ready.
"""

from __future__ import annotations

from .definitions.breaker import CircuitBreaker
from .definitions.limits import Concurrency, RateLimit
from .definitions.retry import Discard, Retry, RetryPolicy, Snooze, exponential, fixed
from .definitions.unique import Unique
from .enqueueing.batches import Batch
from .enqueueing.context import CurrentJob, current_job, report_progress
from .enqueueing.decorator import Job, job
from .enqueueing.enqueue import JobOptions, JobQueue, enqueue, enqueue_bulk
from .enqueueing.flows import Flow
from .enqueueing.handle import JobHandle
from .enqueueing.triggers import enqueue_on
from .states import JobState, Priority
from .version import __version__ as __version__

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
