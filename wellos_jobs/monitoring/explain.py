"""What a job is waiting for, as a sentence, from live state. Read-only."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import broker
from ..broker import job_hash, keys
from ..states import FINAL_STATES, JobState, Priority
from . import code

if TYPE_CHECKING:
    from ..models import JobRecord

_FIELDS = (
    job_hash.STATUS,
    job_hash.GENERATION,
    job_hash.QUEUE,
    job_hash.PRIORITY,
    job_hash.PARKED_AT,
    *code.FIELDS,
    job_hash.LIMITS,
    job_hash.WORKER,
    job_hash.ERROR,
    job_hash.CANCEL_REQUESTED,
)
MOST_NAMED = 3
"""Jobs that a sentence names at most."""


class Handle(Protocol):
    """What ``explain`` needs of a JobHandle, which imports this module."""

    id: uuid.UUID
    queue: str

    def record(self) -> JobRecord:
        """Return the row."""

    def state_in_hash(self, found: Mapping[str, str]) -> JobState | None:
        """Return the state by the hash; None if the row knows better."""


def explain(handle: Handle) -> str:
    """Return in a sentence or two what a job is waiting for, or how it ended.

    Raises:
        JobNotFound: neither Redis nor the database has it.
    """
    try:
        connection = broker.client(handle.queue)
        found = job_hash.read(connection, handle.id, _FIELDS)
    except broker.Unavailable:
        return _("Redis is unavailable: the job waits for it.")

    state = handle.state_in_hash(found)
    if state is None:
        return _from_row(handle)
    if state in FINAL_STATES:
        return _ended(state)
    if state is JobState.ACTIVE:
        stopping = _(" It was asked to stop.") if found[job_hash.CANCEL_REQUESTED] else ""
        return _("It runs on worker %(worker)s.") % {"worker": found[job_hash.WORKER]} + stopping
    if state is JobState.DELAYED:
        return _delayed(connection, handle, found)
    if state is JobState.BLOCKED:
        return _("It waits for other jobs.")
    return _waiting(connection, handle, found)


def _ended(state: JobState) -> str:
    return {
        JobState.COMPLETED: _("It waits for nothing: it has completed."),
        JobState.FAILED: _("It has failed for good: its dead letter can be replayed."),
        JobState.CANCELED: _("It was canceled."),
    }[state]


def _from_row(handle: Handle) -> str:
    record = handle.record()
    state = JobState(record.state)
    if state in FINAL_STATES:
        return _ended(state)
    if state is not JobState.BLOCKED:
        return _(
            "Redis does not know it yet: it is pushed within seconds of its commit, "
            "or once Redis is back."
        )

    needs = record.dependencies.exclude(needs__state__in=FINAL_STATES).order_by("pk")
    names = [
        f"{name} ({pk})"
        for name, pk in needs.values_list("needs__name", "needs_id")[: MOST_NAMED + 1]
    ]
    if not names:
        return _("It waits for its batch to be done.")

    more = _(" and others") if len(names) > MOST_NAMED else ""
    return _("It waits for %(jobs)s%(more)s.") % {
        "jobs": ", ".join(names[:MOST_NAMED]),
        "more": more,
    }


def _delayed(connection: Any, handle: Handle, found: dict[str, str]) -> str:
    score = connection.zscore(keys.DUE, str(handle.id))
    if score is None:
        return _("It is due now.")

    due = timezone.localtime(datetime.fromtimestamp(float(score), tz=UTC))
    when = f"{due:%Y-%m-%d %H:%M:%S %Z}"
    if found[job_hash.ERROR]:
        return _("Its last attempt failed; it is tried again at %(when)s.") % {"when": when}
    return _("It is delayed until %(when)s.") % {"when": when}


def _waiting(connection: Any, handle: Handle, found: dict[str, str]) -> str:
    queue = found[job_hash.QUEUE]
    if connection.exists(keys.SUSPENDED):
        return _("All work is suspended (rqsuspend); `rqresume` lets it go on.")
    if connection.hexists(keys.PAUSED, queue):
        return _("The queue %(queue)s is paused.") % {"queue": queue}
    if not _has_worker(connection, queue):
        return _("No worker serves the queue %(queue)s.") % {"queue": queue}
    if found[job_hash.HELD_IN]:
        return code.wanted(connection, found)
    if found[job_hash.PARKED_AT]:
        return _limited(connection, found)
    return _in_line(connection, handle, found)


def _has_worker(connection: Any, queue: str) -> bool:
    sets = connection.smembers(keys.sets_of(queue))
    workers = connection.smembers(keys.workers_of(queue))
    is_served = any(connection.exists(keys.queue_set(broker.text(one))) for one in sets)
    return is_served and bool(workers)


def _limited(connection: Any, found: dict[str, str]) -> str:
    parked = found[job_hash.PARKED_AT]
    limit = next(
        (one for one in json.loads(found[job_hash.LIMITS] or "[]") if one["id"] == parked), None
    )
    key = parked.partition(":")[2]
    if limit is None:
        return _("A limit holds it back: %(limit)s.") % {"limit": key}

    most = broker.text(connection.hget(keys.LIMITS, parked)) or limit.get("n", "")
    if "b" in limit:
        return _(
            "The circuit breaker %(name)s is open: a probe checks whether the dependency is back."
        ) % {"name": key}
    if "p" in limit:
        rate = {"key": key.rpartition("/")[0], "most": most, "period": f"{limit['p']:g}"}
        return _("The rate limit %(key)s is used up: %(most)s in %(period)s s.") % rate
    holders = connection.zrange(keys.running(parked), 0, MOST_NAMED - 1)
    names = ", ".join(broker.text(one) for one in holders)
    return _("%(most)s runs of %(key)s are allowed at once, and they are taken: %(holders)s.") % {
        "most": most,
        "key": key,
        "holders": names,
    }


def _in_line(connection: Any, handle: Handle, found: dict[str, str]) -> str:
    priority = int(found[job_hash.PRIORITY] or Priority.NORMAL)
    queue = found[job_hash.QUEUE]
    more_urgent = [keys.lane(queue, other) for other in Priority if other < priority]
    before = sum(_length(connection, lane) for lane in more_urgent)

    place = _place(connection, keys.lane(queue, priority), str(handle.id))
    if place is None:
        return _("It is about to start.")

    ahead = before + place
    return ngettext(
        "It waits for a free worker: %(jobs)d job of %(queue)s comes before it.",
        "It waits for a free worker: %(jobs)d jobs of %(queue)s come before it.",
        ahead,
    ) % {"jobs": ahead, "queue": queue}


def _length(connection: Any, lane: str) -> int:
    return int(connection.llen(lane)) + int(connection.zcard(keys.turns(lane)))


def _place(connection: Any, lane: str, job_id: str) -> int | None:
    """Return the number of jobs before this one in its lane; None if it is not in the lane.

    A lane is a list, followed by the jobs that wait for their turn in a fair queue.
    """
    place = connection.lpos(lane, job_id)
    if place is not None:
        return int(place)
    turn = connection.zrank(keys.turns(lane), job_id)
    return None if turn is None else int(connection.llen(lane)) + int(turn)
