"""What operators do to jobs, dead letters, queues, schedules, flows and batches, each with its audit entry.

Imports ``enqueueing``, ``schedules``, ``monitoring``, ``broker`` and the models. Users import all
names below.
"""

from __future__ import annotations

from .audit import Report
from .edits import assign, assign_many, enqueue_copy, replay_edited
from .flows import cancel_batch, cancel_batches, cancel_flow, retry_batch, retry_batches, retry_flow
from .jobs import (
    cancel,
    cancel_many,
    discard,
    discard_many,
    replay,
    replay_many,
    retry,
    retry_many,
    send_canary,
)
from .queues import (
    change_priority,
    change_priority_many,
    empty_queue,
    move,
    move_many,
    pause_queue,
    promote,
    promote_many,
    reset_breaker,
    resume_queue,
    set_limit,
    trip_breaker,
)
from .schedules import (
    delete_schedule,
    delete_schedules,
    disable_schedule,
    disable_schedules,
    enable_schedule,
    enable_schedules,
    run_schedule_now,
    run_schedules_now,
    save_schedule,
)

__all__ = [
    "Report",
    "assign",
    "assign_many",
    "cancel",
    "cancel_batch",
    "cancel_batches",
    "cancel_flow",
    "cancel_many",
    "change_priority",
    "change_priority_many",
    "delete_schedule",
    "delete_schedules",
    "disable_schedule",
    "disable_schedules",
    "discard",
    "discard_many",
    "empty_queue",
    "enable_schedule",
    "enable_schedules",
    "enqueue_copy",
    "move",
    "move_many",
    "pause_queue",
    "promote",
    "promote_many",
    "replay",
    "replay_edited",
    "replay_many",
    "reset_breaker",
    "resume_queue",
    "retry",
    "retry_batch",
    "retry_batches",
    "retry_flow",
    "retry_many",
    "run_schedule_now",
    "run_schedules_now",
    "save_schedule",
    "send_canary",
    "set_limit",
    "trip_breaker",
]
