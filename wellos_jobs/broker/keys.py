"""All Redis keys. RQ's keys have RQ's layout; ours begin with ``<prefix>:wellos:``.

The Lua scripts build the same keys (``scripts/include/``); a test compares the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rq.defaults import RQ_KEY_PREFIX

from ..states import Priority

PREFIX: str = RQ_KEY_PREFIX
OWN = f"{PREFIX}:wellos:"

FAR = 4102444800
"""A score in the year 2100: entries of RQ's registries with it are not cleaned up by RQ."""

QUEUES = f"{PREFIX}:queues"
SUSPENDED = f"{PREFIX}:suspended"
WORKERS = f"{PREFIX}:workers"

EVENTS = f"{OWN}events"
EPOCH = f"{OWN}epoch"
BEAT = f"{OWN}beat"
INSTALLATION = f"{OWN}installation"
"""Which installation this Redis belongs to: a hash of ``identity`` and ``home``."""
TRUSTED = f"{OWN}trusted"
"""The server run whose data were compared with the rows, and the one that waits for it."""
LEADER = f"{OWN}leader"
LEASES = f"{OWN}leases"
DUE = f"{OWN}due"
PAUSED = f"{OWN}paused"
FAIR = f"{OWN}fair"
BACKLOG = f"{OWN}backlog"
WAKEUP = f"{OWN}alarm"
"""A list of at most one token, on which the scheduler blocks."""
CLOCK = f"{OWN}clock"
SUPERVISORS = f"{OWN}supervisors"
FLEET = f"{OWN}fleet"
"""The queue sets that have workers, by the time at which that was last seen."""
SERVED = f"{OWN}served"
"""Since when queues with jobs that wait for code are served, and when that was last seen."""
LIMITS = f"{OWN}limits"
"""The numbers of limits that operators have set, as a hash by limit."""
GATES = f"{OWN}gates"
"""Limits that hold jobs back, scored by when there may be room for one."""
GATED = f"{OWN}gated"
"""The definitions of these limits, as a hash of JSON by limit."""
PARKED_FROM = f"{OWN}parked_from"
"""The queues of parked jobs, as a hash by job id."""
BROKEN_ENTRIES = f"{OWN}broken"
ENTRIES = f"{PREFIX}:scheduler:scheduled_jobs"


def job(job_id: object) -> str:
    return f"{PREFIX}:job:{job_id}"


def lane(queue: str, priority: int = Priority.NORMAL) -> str:
    """The list of waiting job ids of one priority of a queue. The NORMAL lane is RQ's own list."""
    base = f"{PREFIX}:queue:{queue}"
    return base if priority == Priority.NORMAL else f"{base}:p{int(priority)}"


def turns(lane_key: str) -> str:
    """The jobs of a fair queue's lane that are not in its list yet, by turn."""
    return f"{OWN}turns:{lane_key}"


def lanes(queue: str) -> list[str]:
    return [lane(queue, priority) for priority in Priority]


def wip(queue: str) -> str:
    return f"{PREFIX}:wip:{queue}"


def execution(name: str) -> str:
    """RQ's hash of a run, named ``<job id>:<run>``."""
    return f"{PREFIX}:execution:{name}"


def scheduled(queue: str) -> str:
    return f"{PREFIX}:scheduled:{queue}"


def deferred(queue: str) -> str:
    return f"{PREFIX}:deferred:{queue}"


def finished(queue: str) -> str:
    return f"{PREFIX}:finished:{queue}"


def failed(queue: str) -> str:
    return f"{PREFIX}:failed:{queue}"


def canceled(queue: str) -> str:
    return f"{PREFIX}:canceled:{queue}"


def worker(name: str) -> str:
    return f"{PREFIX}:worker:{name}"


def supervisor(token: str) -> str:
    """The facts about a supervisor, as a hash."""
    return f"{OWN}supervisor:{token}"


def workers_of(queue: str) -> str:
    """RQ's set of the workers that serve a queue."""
    return f"{WORKERS}:{queue}"


def pubsub(worker_name: str) -> str:
    return f"{PREFIX}:pubsub:{worker_name}"


def set_id(queues: Sequence[str], code: str = "") -> str:
    """Return the id of a queue set, under which a worker registers what it serves.

    That is queues in an order, for workers with the same code: a digest of what they know.
    """
    return hashlib.sha256("\x1f".join([*queues, f"\x1e{code}"]).encode()).hexdigest()[:12]


def code_lanes(queue: str) -> str:
    """The names of the lanes of jobs that wait for code."""
    return f"{OWN}code_lanes:{queue}"


def code_lane(name: str) -> str:
    """The list of the ids of jobs that wait for the same code."""
    return f"{OWN}lane:{name}"


def held(name: str) -> str:
    """The jobs of such a lane, by the time since which they wait for the code."""
    return f"{OWN}held:{name}"


def unknown(set_id: str) -> str:
    """The codes that the workers of a queue set do not know, as a hash of what they said."""
    return f"{OWN}unknown:{set_id}"


def jobs(set_id: str) -> str:
    """The jobs that the workers of a queue set know, as a hash of versions by name."""
    return f"{OWN}jobs:{set_id}"


def parked(limit: str) -> str:
    """The jobs that wait at a limit, first in line first."""
    return f"{OWN}parked:{limit}"


def parked_of(queue: str) -> str:
    """The parked jobs of a queue, by the time since which they wait."""
    return f"{OWN}parked_of:{queue}"


def running(limit: str) -> str:
    """The running jobs that hold a slot of a concurrency limit."""
    return f"{OWN}running:{limit}"


def starts(limit: str) -> str:
    """The starts that count in the period of a rate limit, by time."""
    return f"{OWN}starts:{limit}"


def breaker(limit: str) -> str:
    """The hash of an open circuit breaker; a closed one has none."""
    return f"{OWN}breaker:{limit}"


def failures(limit: str) -> str:
    """The recent failures that a circuit breaker counts, by time."""
    return f"{OWN}failures:{limit}"


def queue_set(set_id: str) -> str:
    """A registered queue set, as a hash: queue name -> place in the worker's order."""
    return f"{OWN}set:{set_id}"


def sets_of(queue: str) -> str:
    """The ids of the queue sets that a queue belongs to."""
    return f"{OWN}sets:{queue}"


def ready(set_id: str) -> str:
    """The non-empty lanes of a queue set, best first."""
    return f"{OWN}ready:{set_id}"


def age(set_id: str) -> str:
    """The non-empty lanes of a queue set, by the time since which their oldest job waits."""
    return f"{OWN}age:{set_id}"


def bell(set_id: str) -> str:
    """A list of at most one token, on which the idle workers of a queue set block."""
    return f"{OWN}bell:{set_id}"
