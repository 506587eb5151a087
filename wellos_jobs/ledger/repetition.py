"""Which events a row has outlived: Redis may come back with older data, and tell them again. Pure.

Then the stream is read from its start once more, and jobs may run that have ended before.
"""

from __future__ import annotations

from ..broker import events
from ..broker.events import Event
from ..models import JobRecord
from ..states import EventName, JobState

_ENDS_OF_RUNS = frozenset(
    {EventName.PROGRESSED, EventName.RETRIED, EventName.SNOOZED, EventName.RESCUED}
)
"""What happens in a run, besides the end of the job."""


def is_repeated(row: JobRecord, event: Event, known_upto: str) -> bool:
    """Return whether a row is beyond an event.

    A row that has ended stays so until it is replayed. Up to the position ``known_upto`` an event
    may have been applied before: there it counts only if it carries the row on.
    """
    if _is_over(row, event):
        return True
    if events.order(event.position) > events.order(known_upto):
        return False
    return event.generation < row.replays or not _carries_on(row, event)


def _is_over(row: JobRecord, event: Event) -> bool:
    """Return whether the job has ended, in the life of the event.

    A job of plain RQ code may run again, and RQ may enqueue a failed one of ours again.
    """
    if row.is_foreign or not JobState(row.state).is_final or event.generation != row.replays:
        return False
    return event.event is not EventName.ENQUEUED or row.state != JobState.FAILED


def _carries_on(row: JobRecord, event: Event) -> bool:
    if JobState(row.state).is_final:
        return False
    if event.event is EventName.STARTED:
        return event.attempt > row.attempts

    runs = row.state == JobState.ACTIVE
    if event.event in _ENDS_OF_RUNS:
        return event.attempt > row.attempts or (event.attempt == row.attempts and runs)
    if event.event in (EventName.ENQUEUED, EventName.REPLAYED):
        return event.attempt >= row.attempts and not runs
    return True
