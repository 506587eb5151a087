"""Operator actions on jobs, dead letters, queues, workers, schedules, flows and batches.

Each writes an audit entry in the same transaction. ``verbs`` is the table of what operators can do.
Imports ``enqueueing``, ``schedules``, ``monitoring``, ``broker`` and the models. Users import all
names below.
"""

from __future__ import annotations

from .audit import BulkResult
from .bulk import stop_bulk_operation, stop_bulk_operations
from .dead_letters import (
    assign,
    assign_many,
    discard,
    discard_many,
    replay,
    replay_many,
    send_canary,
)
from .edits import enqueue_copy, replay_edited
from .erasure import Person, erase_person, find_person
from .flows import cancel_batch, cancel_batches, cancel_flow, retry_batch, retry_batches, retry_flow
from .jobs import (
    cancel,
    cancel_many,
    change_priority,
    change_priority_many,
    move,
    move_many,
    promote,
    promote_many,
    retry,
    retry_many,
)
from .queues import (
    empty_queue,
    pause_queue,
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
from .workers import quiet_workers, resume_workers, stop_workers

__all__ = [
    "BulkResult",
    "Person",
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
    "erase_person",
    "find_person",
    "move",
    "move_many",
    "pause_queue",
    "promote",
    "promote_many",
    "quiet_workers",
    "replay",
    "replay_edited",
    "replay_many",
    "reset_breaker",
    "resume_queue",
    "resume_workers",
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
    "stop_bulk_operation",
    "stop_bulk_operations",
    "stop_workers",
    "trip_breaker",
]
