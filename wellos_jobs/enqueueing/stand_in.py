"""What takes the place of Redis for a while: ``wellos_jobs.testing`` puts it there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..states import EventName, Priority

if TYPE_CHECKING:
    from ..models import JobRecord

Canceled = Literal["canceled", "stopping", "already", "final"]
"""What a cancellation did: nothing if another one was first ("already") or the job is "final"."""


class StandIn(Protocol):
    """What is said to Redis about a job, outside of workers."""

    def push(self, records: Sequence[JobRecord], event: EventName) -> None:
        """Take jobs that may run, or may run later. Those it knows already are skipped."""

    def cancel(self, record: JobRecord, detail: dict[str, Any] | None) -> Canceled:
        """Cancel a job."""

    def promote(self, record: JobRecord) -> bool:
        """Let a delayed job run now; return whether it was delayed."""

    def relocate(self, record: JobRecord, queue: str, priority: Priority) -> bool:
        """Return whether a job may still change its queue or priority."""


class _Place:
    taken_by: StandIn | None = None


def current() -> StandIn | None:
    """Return what stands in for Redis; None for the real one."""
    return _Place.taken_by


@contextmanager
def standing_in(stand_in: StandIn) -> Iterator[None]:
    """Let this one take the place of Redis, in all threads, until the end of the block."""
    before, _Place.taken_by = _Place.taken_by, stand_in
    try:
        yield
    finally:
        _Place.taken_by = before
