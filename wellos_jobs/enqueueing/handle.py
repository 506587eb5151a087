"""JobHandle, returned by ``enqueue()``: read a job's state and result, wait for it, cancel it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError

from .. import broker, payload
from ..broker import job_hash
from ..errors import JobNotFound
from ..processes.growing_pause import GrowingPause
from ..states import JobState
from . import control

if TYPE_CHECKING:
    from ..models import JobRecord

_FIELDS = (
    job_hash.STATUS,
    job_hash.GENERATION,
    job_hash.PROGRESS,
    job_hash.MESSAGE,
    job_hash.RESULT,
    job_hash.ERROR,
    job_hash.ATTEMPT,
)
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25


class JobHandle:
    """One job by its id. Each property reads again: from Redis, else from the row."""

    __slots__ = ("database", "duplicate", "id", "queue")

    def __init__(
        self, id: uuid.UUID, queue: str, database: str = "default", *, duplicate: bool = False
    ) -> None:
        self.id = id
        self.queue = queue
        self.database = database
        self.duplicate = duplicate

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} on {self.queue}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def state(self) -> JobState:
        """The current state of the job.

        Raises:
            JobNotFound: neither Redis nor the database has it, for example after a rollback.
        """
        return self.snapshot()["state"]  # type: ignore[no-any-return]

    @property
    def progress(self) -> int:
        """The progress of the run, in percent."""
        return int(self.snapshot()["progress"])

    @property
    def result(self) -> Any:
        """The return value of the job; None until it has completed."""
        return self.snapshot()["result"]

    @property
    def error(self) -> str:
        """The text of the last error, '' if there was none."""
        return str(self.snapshot()["error"])

    def refresh(self) -> JobHandle:
        """Check that the job exists and return the handle.

        Raises:
            JobNotFound: neither Redis nor the database has it.
        """
        self.snapshot()
        return self

    def record(self) -> JobRecord:
        """Return the row.

        Raises:
            JobNotFound: it is not, or no longer, in the database.
        """
        from ..models import JobRecord

        try:
            return JobRecord.objects.using(self.database).get(pk=self.id)
        except JobRecord.DoesNotExist:
            raise JobNotFound(
                f"There is no job {self.id} in the database {self.database!r}"
            ) from None

    def snapshot(self) -> dict[str, Any]:
        """Return state, progress, progress_message, result, error and attempts, read at once."""
        return self._in_redis() or self._in_row()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the job is final, at most ``timeout`` seconds; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = GrowingPause(_FIRST_PAUSE, _LONGEST_PAUSE, factor=1.5)
        while not self.state.is_final:
            left = _LONGEST_PAUSE if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause.next(), left))
        return True

    def explain(self) -> str:
        """Return in words what the job is waiting for, or how it ended.

        Raises:
            JobNotFound: neither Redis nor the database has it.
        """
        from ..monitoring.explain import explain

        return explain(self)

    def cancel(self) -> bool:
        """Cancel the job, also while it runs.

        Returns whether this call did: False if it is final, or another call was first.
        """
        return control.cancel_open([self.record()]) == 1

    def _in_redis(self) -> dict[str, Any] | None:
        try:
            found = job_hash.read(broker.client(self.queue), self.id, _FIELDS)
        except broker.Unavailable:
            return None
        state = self.state_in_hash(found)
        if state is None:
            return None

        result = found[job_hash.RESULT]
        return {
            "state": state,
            "progress": int(found[job_hash.PROGRESS] or 0),
            "progress_message": found[job_hash.MESSAGE],
            "result": payload.decode_result(json.loads(result)) if result else None,
            "error": found[job_hash.ERROR],
            "attempts": int(found[job_hash.ATTEMPT] or 0),
        }

    def state_in_redis(self) -> JobState | None:
        """Return the state by Redis; None if the row knows better, or Redis is unavailable."""
        found = self._in_redis()
        return found["state"] if found else None

    def state_in_hash(self, found: Mapping[str, str]) -> JobState | None:
        """Return the state by the STATUS and GENERATION of the hash; None if the row knows better.

        Only a failed job can have been replayed since: for other states the row is not read.
        """
        try:
            state = job_hash.state(found)
        except ValueError:
            return None
        return state if state is not JobState.FAILED else job_hash.state(found, self._replays())

    def _replays(self) -> int:
        from ..models import JobRecord

        rows = JobRecord.objects.using(self.database).filter(pk=self.id)
        try:
            return rows.values_list("replays", flat=True).first() or 0
        except DatabaseError:  # while the database is unavailable, the hash is all there is
            return 0

    def _in_row(self) -> dict[str, Any]:
        record = self.record()
        return {
            "state": JobState(record.state),
            "progress": record.progress,
            "progress_message": record.progress_message,
            "result": payload.decode_result(record.result),
            "error": record.error,
            "attempts": record.attempts,
        }
