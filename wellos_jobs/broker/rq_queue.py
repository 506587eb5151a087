"""LaneQueue: RQ's Queue over the five priority lanes, for django-rq, `rq info` and RQ's API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django_rq.queues import DjangoRQ
from rq.utils import as_text

from ..payload.rq_calls import check_id
from ..states import Priority
from . import keys
from .connection import Client, rq_time, run, run_within

if TYPE_CHECKING:
    from redis.client import Pipeline
    from rq.job import Job


EMPTY_CHUNK = 1_000
"""Jobs that one call removes from a queue: 100,000 would block Redis for seconds."""


def empty(connection: Client, queue: str) -> int:
    """Cancel the waiting jobs of a queue; foreign ones are deleted, as RQ does. Return how many."""
    count, more = 0, True
    while more:
        taken, more = run(connection, "empty", rq_time(), queue, EMPTY_CHUNK)
        count += taken
    return count


def code_lane_keys(connection: Client, queue: str) -> list[str]:
    """Return the lists of the jobs of a queue that wait for code."""
    names: Any = connection.smembers(keys.code_lanes(queue))
    return [keys.code_lane(as_text(name)) for name in sorted(names)]


class LaneQueue(DjangoRQ):
    """A queue for RQ code: counts, lists, empties and removes over all lanes, and wakes workers."""

    @property
    def lane_keys(self) -> list[str]:
        """The Redis lists of this queue, most urgent first."""
        return [self._key if p == Priority.NORMAL else f"{self._key}:p{int(p)}" for p in Priority]

    @property
    def count(self) -> int:
        with self.connection.pipeline(transaction=False) as pipeline:
            for key in self._all_keys():
                pipeline.llen(key)
                pipeline.zcard(keys.turns(key))
            return sum(pipeline.execute())

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """Return a slice of the waiting job ids, in the order in which they would be claimed.

        Those that wait for code come last.
        """
        wanted = None if length < 0 else length
        ids: list[str] = []
        for size_of, part_of, key in self._parts():
            if wanted is not None and len(ids) >= wanted:
                break
            size = int(size_of(key))
            if offset >= size:
                offset -= size
                continue
            last = -1 if wanted is None else offset + wanted - len(ids) - 1
            ids += [as_text(job_id) for job_id in part_of(key, offset, last)]
            offset = 0
        return ids

    def _all_keys(self) -> list[str]:
        """Return the keys of all lanes, those of jobs that wait for code last."""
        return [*self.lane_keys, *code_lane_keys(self.connection, self.name)]

    def _parts(self) -> Iterator[tuple[Any, Any, str]]:
        """Yield how to measure and read each part: the list of a lane, then its waiting turns."""
        for key in self._all_keys():
            yield self.connection.llen, self.connection.lrange, key
            yield self.connection.zcard, self.connection.zrange, keys.turns(key)

    def get_job_position(self, job_or_id: Job | str) -> int | None:
        job_id = job_or_id if isinstance(job_or_id, str) else job_or_id.id
        before = 0
        for key in self._all_keys():
            position = self.connection.lpos(key, job_id)
            if position is not None:
                return before + int(str(position))
            before += int(str(self.connection.llen(key)))
            turn = self.connection.zrank(keys.turns(key), job_id)
            if turn is not None:
                return before + int(str(turn))
            before += int(str(self.connection.zcard(keys.turns(key))))
        return None

    def remove(self, job_or_id: Job | str, pipeline: Pipeline | None = None) -> Any:
        """Remove a job from this queue; one of ours is canceled. Returns the entries removed."""
        job_id = job_or_id if isinstance(job_or_id, str) else job_or_id.id
        if pipeline is not None:
            return run_within(pipeline, "remove", rq_time(), job_id, self.name)
        return int(run(self.connection, "remove", rq_time(), job_id, self.name))

    def empty(self) -> int:
        """Cancel our waiting jobs and delete foreign ones; return how many there were."""
        return empty(self.connection, self.name)

    def create_job(self, func: Any, *args: Any, **kwargs: Any) -> Job:
        """Raises ValueError if the id is too long for the job's row."""
        job = super().create_job(func, *args, **kwargs)
        check_id(job.id)
        return job

    def push_job_id(
        self, job_id: str, pipeline: Pipeline | None = None, at_front: bool = False
    ) -> None:
        super().push_job_id(job_id, pipeline=pipeline, at_front=at_front)
        target = pipeline if pipeline is not None else self.connection
        run_within(target, "enqueued", job_id, self.name, "")

    def schedule_job(
        self, job: Job, datetime: datetime, pipeline: Pipeline | None = None, unique: bool = False
    ) -> Job:
        scheduled = super().schedule_job(job, datetime, pipeline=pipeline, unique=unique)
        at = f"{int(datetime.timestamp())}"  # RQ's registry has whole seconds
        target = pipeline if pipeline is not None else self.connection
        run_within(target, "enqueued", job.id, self.name, at)
        return scheduled
