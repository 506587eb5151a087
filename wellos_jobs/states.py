"""Job states, priorities, event names, audit actions, and the other stored choices."""

from __future__ import annotations

import enum

from django.db import models
from django.utils.translation import gettext_lazy as _


class JobState(models.TextChoices):
    """Where a job is. The last three are final."""

    WAITING = "waiting", _("waiting")
    DELAYED = "delayed", _("delayed")
    BLOCKED = "blocked", _("blocked")
    ACTIVE = "active", _("active")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")
    CANCELED = "canceled", _("canceled")

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELED})
OPEN_STATES = frozenset(JobState) - FINAL_STATES

# RQ's name for each of our states, in the ``status`` field of a job hash.
RQ_STATUS = {
    JobState.WAITING: "queued",
    JobState.DELAYED: "scheduled",
    JobState.BLOCKED: "deferred",
    JobState.ACTIVE: "started",
    JobState.COMPLETED: "finished",
    JobState.FAILED: "failed",
    JobState.CANCELED: "canceled",
}
# Plain RQ jobs have further states: stopped while running, and not yet queued.
STATE_OF_RQ_STATUS = {status: state for state, status in RQ_STATUS.items()} | {
    "stopped": JobState.CANCELED,
    "rate_limited": JobState.BLOCKED,
    "ready_to_enqueue": JobState.BLOCKED,
    "created": JobState.WAITING,
}


class Priority(enum.IntEnum):
    """How urgent a job is inside its queue: the lower the number, the sooner it runs."""

    CRITICAL = 1
    HIGH = 3
    NORMAL = 5
    LOW = 7
    BULK = 10


class EventName(enum.StrEnum):
    """The name of a transition, in the past tense, as in the event stream."""

    ENQUEUED = "enqueued"
    STARTED = "started"
    PROGRESSED = "progressed"
    COMPLETED = "completed"
    RETRIED = "retried"
    SNOOZED = "snoozed"
    FAILED = "failed"
    REPLAYED = "replayed"
    CANCELED = "canceled"
    RESCUED = "rescued"


class FailureReason(models.TextChoices):
    """Why a job failed for good: the ``reason`` of its dead letter."""

    EXHAUSTED = "exhausted", _("all attempts failed")
    NOT_RETRYABLE = "not_retryable", _("an error that a retry cannot fix")
    TIMEOUT = "timeout", _("ran longer than its timeout")
    CRASHED = "crashed", _("its worker died")
    UNKNOWN_JOB = "unknown_job", _("no worker knows the job")
    BAD_PAYLOAD = "bad_payload", _("its data cannot be read")
    BAD_RESULT = "bad_result", _("the work is done, but its result cannot be stored")
    LOST = "lost", _("lost with the data of Redis")


class AttemptOutcome(models.TextChoices):
    """How an attempt ended that did not complete."""

    RETRIED = "retried", _("failed, retried later")
    FAILED = "failed", _("failed for good")
    TIMEOUT = "timeout", _("timed out")
    CRASHED = "crashed", _("worker died")
    CANCELED = "canceled", _("canceled")


class CatchUp(models.TextChoices):
    """What a schedule does about runs missed while no scheduler was running."""

    SKIP = "skip", _("skip them")
    ONCE = "once", _("run once for all of them")
    ALL = "all", _("run each of them, up to the limit")


class Overlap(models.TextChoices):
    """What a schedule does when its last job has not ended."""

    ALLOW = "allow", _("run anyway")
    SKIP = "skip", _("skip the run")


class BatchState(models.TextChoices):
    """State of a batch: open to more jobs, closed, or done (all its jobs are final)."""

    OPEN = "open", _("open")
    CLOSED = "closed", _("closed")
    DONE = "done", _("done")


class OnFailure(models.TextChoices):
    """What happens to a job when one it depends on fails for good or is canceled."""

    CANCEL = "cancel", _("it is canceled")
    RUN = "run", _("it runs anyway")
    FAIL = "fail", _("it fails too")


class DeadLetterStatus(models.TextChoices):
    """State of a dead letter."""

    OPEN = "open", _("open")
    REPLAYED = "replayed", _("replayed")
    DISCARDED = "discarded", _("discarded")


class AuditAction(models.TextChoices):
    """What an audit entry records, in the past tense. All but FAILED are operator actions."""

    FAILED = "failed", _("failed")
    RETRIED = "retried", _("retried")
    REPLAYED = "replayed", _("replayed")
    DISCARDED = "discarded", _("discarded")
    CANCELED = "canceled", _("canceled")
    CREATED = "created", _("created")
    CHANGED = "changed", _("changed")
    REMOVED = "removed", _("removed")
    ENABLED = "enabled", _("enabled")
    DISABLED = "disabled", _("disabled")
    RAN = "ran", _("run now")
    ENQUEUED = "enqueued", _("enqueued")
    PROMOTED = "promoted", _("let run now")
    CHANGED_PRIORITY = "changed priority", _("changed priority")
    MOVED = "moved", _("moved")
    EDITED = "edited", _("edited")
    ASSIGNED = "assigned", _("assigned")
    SENT_CANARY = "sent canary", _("sent a canary")
    PAUSED = "paused", _("paused")
    RESUMED = "resumed", _("resumed")
    EMPTIED = "emptied", _("emptied")
    SET_LIMIT = "set limit", _("set limit")
    RESET_BREAKER = "reset breaker", _("reset breaker")
    TRIPPED_BREAKER = "tripped breaker", _("tripped breaker")
    QUIETED = "quieted", _("quieted")
    STOPPED = "stopped", _("stopped")
    BEGAN_ERASING = "began erasing", _("began to erase")
    ERASED = "erased", _("erased")
