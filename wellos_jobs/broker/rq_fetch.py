"""Reads the job of plain RQ code from Redis, without unpacking more than is allowed."""

from __future__ import annotations

from typing import Any

from rq.exceptions import NoSuchJobError

from ..payload.rq_calls import unzipped
from . import keys
from .connection import Client

_COMPRESSED = (b"data", b"exc_info")


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
