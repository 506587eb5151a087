"""Reads the job of plain RQ code from Redis, without unpacking more than is allowed."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from rq.exceptions import NoSuchJobError
from rq.job import Job

from ..payload.rq_calls import PayloadTooLarge, unzipped
from . import keys
from .connection import Client

logger = logging.getLogger("wellos_jobs")

_COMPRESSED = (b"data", b"exc_info")


class _Bounded(Job):
    """Mixed into a job class: RQ's own code, which looks at dependents, unpacks no more either."""

    def restore(self, raw_data: Any) -> Any:
        kept = dict(raw_data)
        for name in _COMPRESSED:
            try:
                unzipped(kept.get(name, b""))
            except PayloadTooLarge as error:
                logger.warning("job=%s: its field %s is ignored: %s", self.id, name.decode(), error)
                kept[name] = b""  # the job fails when it is run, not the one that RQ looks from
        return super().restore(kept)


@cache
def bounded(job_class: type[Any]) -> type[Any]:
    """Return a job class whose jobs are read without unpacking more than is allowed."""
    if job_class is Job:
        return _Bounded
    return type(job_class.__name__, (_Bounded, job_class), {})


def fetch(job_class: Any, job_id: str, connection: Client, serializer: Any) -> Any:
    """Return a job as ``job_class.fetch`` does, which unpacks whatever a hash contains.

    Raises:
        NoSuchJobError: there is no hash of this id.
        PayloadTooLarge: a field unpacks to more than ``payload.rq_calls.MAX_UNZIPPED``.
    """
    stored: Any = connection.hgetall(keys.job(job_id))
    if not stored:
        raise NoSuchJobError(f"No such job: {job_id}")

    for name in _COMPRESSED:
        if name in stored:
            unzipped(stored[name])

    job = job_class(job_id, connection=connection, serializer=serializer)
    job.restore(stored)
    return job
