"""The hash of a job in Redis: the names of its fields, and how they are read.

Names without a prefix are RQ's, ours begin with ``w:``. The Lua scripts use the same names; a test
compares the two. The hash of a new job is written by ``enqueueing.push``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..states import STATE_OF_RQ_STATUS, JobState
from . import keys
from .connection import Client, text

# RQ's fields.
STATUS = "status"
QUEUE = "origin"
DATA = "data"
DESCRIPTION = "description"
RQ_TIMEOUT = "timeout"
"""The time limit in whole seconds; ``TIMEOUT`` is the exact one."""
WORKER = "worker_name"
CREATED_AT = "created_at"
ENQUEUED_AT = "enqueued_at"
STARTED_AT = "started_at"
ENDED_AT = "ended_at"
HEARTBEAT = "last_heartbeat"

# Our fields.
NAME = "w:name"
"""The name of the job. A job enqueued through RQ does not have it."""
PRIORITY = "w:prio"
ATTEMPT = "w:attempt"
MAX_ATTEMPTS = "w:max"
TIMEOUT = "w:timeout"
VERSION = "w:version"
"""The version of the job's data."""
CODE = "w:code"
"""The code that the job needs (``definitions.code``)."""
HELD_IN = "w:held"
"""The lane of jobs that wait for code in which the job is."""
UNKNOWN = "w:unknown"
"""What the workers said that do not know its code, as JSON."""
DATABASE = "w:db"
"""The alias of the database that holds the row."""
GENERATION = "w:gen"
"""How often the job was replayed. A row with more replays is newer than the hash."""
ORGANIZATION = "w:org"
USER = "w:user"
CONTEXT = "w:ctx"
LIMITS = "w:limits"
"""The limits and circuit breakers of the job, as JSON."""
WAITING_SINCE = "w:since"
RUN = "w:run"
"""The run that holds the claim: only it may settle the job."""
CANCEL_REQUESTED = "w:cancel"
"""Who asked to stop the run."""
CANCELED_BY = "w:by"
"""Which call canceled the job, or was the first to ask to stop its run."""
PARKED_AT = "w:parked"
"""The limit at which the job is parked."""
LET_GO_BY = "w:from"
"""The limit that has just unparked the job."""
PROGRESS = "w:progress"
MESSAGE = "w:message"
RESULT = "w:result"
ERROR = "w:error"


def state(found: Mapping[str, str], replays: int = 0) -> JobState | None:
    """Return the state by the STATUS and GENERATION of a hash; None if it says nothing of the job.

    That is when there is no hash, or it is from before a replay whose push is still to come:
    ``replays`` is that of the row.

    Raises:
        ValueError: the status is unknown.
    """
    status = found[STATUS]
    if not status or int(found[GENERATION] or 0) < replays:
        return None
    if status not in STATE_OF_RQ_STATUS:
        raise ValueError(f"its status is {status!r}")
    return STATE_OF_RQ_STATUS[status]


def read(connection: Client, job_id: object, fields: Sequence[str]) -> dict[str, str]:
    """Return fields of a job's hash as text, '' for those it does not have. One round trip."""
    values: Any = connection.hmget(keys.job(job_id), fields)
    return decode(fields, values)


def decode(fields: Sequence[str], values: Iterable[bytes | str | None]) -> dict[str, str]:
    """Return the values of an HMGET as text by field, '' for those that are missing."""
    return {name: text(value) for name, value in zip(fields, values, strict=True)}
