"""Claims: the right of one worker to run one job once. Make, settle and end them."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import redis as redis_py

from .. import conf, payload
from ..states import EventName, FailureReason
from . import connection as broker
from . import job_hash

OutcomeKind = Literal[
    "completed", "retried", "snoozed", "failed", "canceled", "handed_back", "waits_for_code"
]

EVENT_OF: dict[OutcomeKind, EventName] = {
    "completed": EventName.COMPLETED,
    "retried": EventName.RETRIED,
    "snoozed": EventName.SNOOZED,
    "failed": EventName.FAILED,
    "canceled": EventName.CANCELED,
    "handed_back": EventName.SNOOZED,
    "waits_for_code": EventName.SNOOZED,
}


CLAIM_FIELDS = (
    job_hash.NAME,
    job_hash.DATA,
    job_hash.QUEUE,
    job_hash.ATTEMPT,
    job_hash.MAX_ATTEMPTS,
    job_hash.TIMEOUT,
    job_hash.DATABASE,
    job_hash.GENERATION,
    job_hash.ORGANIZATION,
    job_hash.USER,
    job_hash.CONTEXT,
    job_hash.RUN,
    job_hash.WAITING_SINCE,
    job_hash.PRIORITY,
    job_hash.RQ_TIMEOUT,
    job_hash.VERSION,
)
"""What an answer holds of a claimed job, in the order of ``scripts/include/claiming.lua``."""


class ClaimCall(NamedTuple):
    """The arguments of ``claim.lua``, and the first ones of ``settle.lua``, in order."""

    worker: str
    number: int
    nonce: str
    queue_set: str
    time: str
    lease: float


class SettleCall(NamedTuple):
    """The further arguments of ``settle.lua``, in order."""

    job_id: str
    run: str
    outcome: OutcomeKind
    after: str
    seconds: str
    detail: str
    result: str
    error: str
    verdicts: str
    unknown_to: str


class QueueSetUnknown(Exception):
    """The queue set of the worker is not registered: Redis has lost its data, or it expired."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker holds. ``name`` is '' for a job enqueued through RQ."""

    id: str
    name: str
    data: bytes
    queue: str
    attempt: int
    max_attempts: int
    timeout: float
    database: str
    generation: int
    organization_id: str
    user_id: str
    context: str
    run: str
    since: float | None
    priority: int
    worker: str = ""
    version: int = 1
    """The version of its data."""

    @property
    def is_foreign(self) -> bool:
        return not self.name


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``after``: delay of a retry or snooze; ``seconds``: run time, in seconds."""

    kind: OutcomeKind
    seconds: float = 0.0
    after: float = 0.0
    result: str = ""
    reason: FailureReason | None = None
    error_class: str = ""
    message: str = ""
    traceback: str = ""
    verdicts: str = ""
    """What the run says about its circuit breakers, as JSON by breaker; '' for nothing."""
    log: Mapping[str, Any] = field(default_factory=dict)
    """What the run has logged (``RunLog.as_detail``)."""

    def detail(self) -> str:
        """Return the detail of the event for the ledger, as JSON."""
        detail: dict[str, Any] = {}
        if self.kind != "waits_for_code":
            detail["run"] = round(self.seconds, 6)
        if self.kind == "completed":
            detail["result"] = self.result
        if self.kind in ("retried", "snoozed"):
            detail["after"] = round(self.after, 6)
        if self.reason is not None:
            detail["reason"] = self.reason.value
        if self.error_class or self.message:
            detail["error_class"] = self.error_class
            detail["message"] = self.message
            detail["traceback"] = self.traceback
        return payload.to_json({**detail, **self.log})


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a claim or settle.

    ``next_due`` is the number of seconds until the next delayed job is due, None if there is none.
    """

    settled: bool
    claim: Claim | None
    next_due: float | None
    canceled: bool = False
    """The job was canceled while it ran, and this outcome would have made it run again."""
    quiet: bool = False
    """An operator has stopped this worker from taking jobs."""


@dataclass(slots=True)
class Claimer:
    """The calls of one worker process, numbered so that each may be resent after a lost reply."""

    worker: str
    queue_set: str
    connection: redis_py.Redis
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    number: int = 0

    def claim(self) -> Answer:
        """Claim a job. Raises QueueSetUnknown, or redis-py's errors: then use ``repeat_claim``."""
        self.number += 1
        return self._claim()

    def settle(self, claim: Claim, outcome: Outcome, *, claim_next: bool) -> Answer:
        """Store an outcome and, if ``claim_next``, claim the next job in the same round trip."""
        self.number += 1
        return self._settle(claim, outcome, claim_next)

    def repeat_claim(self) -> Answer:
        """Resend the last claim after a lost reply."""
        return self._claim()

    def repeat_settle(self, claim: Claim, outcome: Outcome, *, claim_next: bool) -> Answer:
        """Resend the last settle after a lost reply."""
        return self._settle(claim, outcome, claim_next)

    def foreign_done(self, claim: Claim, *, ran_well: bool, detail: str) -> EventName | None:
        """End the claim of a foreign job that RQ's code has run; None if the claim was lost."""
        arguments = (claim.id, claim.run, self.worker, "1" if ran_well else "", detail)
        name = broker.text(broker.run(self.connection, "foreign", *arguments))
        return EventName(name) if name else None

    def report_progress(self, claim: Claim, percent: int, message: str) -> bool:
        """Store progress; False if the claim was lost."""
        detail = payload.to_json({"percent": percent, "message": message})
        arguments = (claim.id, claim.run, percent, message, detail)
        return bool(broker.run(self.connection, "progress", *arguments))

    def _claim(self) -> Answer:
        try:
            reply = broker.run(self.connection, "claim", *self._call(self.queue_set))
            return _answer(reply, self.worker)
        except redis_py.ResponseError as error:
            if str(error).startswith("NOSET"):
                raise QueueSetUnknown(self.queue_set) from error
            raise

    def _settle(self, claim: Claim, outcome: Outcome, claim_next: bool) -> Answer:
        call = self._call(self.queue_set if claim_next else "")
        settle = SettleCall(
            job_id=claim.id,
            run=claim.run,
            outcome=outcome.kind,
            after=f"{outcome.after:.6f}",
            seconds=f"{outcome.seconds:.6f}",
            detail=outcome.detail(),
            result=outcome.result,
            error=outcome.message,
            verdicts=outcome.verdicts,
            unknown_to=self.queue_set if outcome.kind == "waits_for_code" else "",
        )
        return _answer(broker.run(self.connection, "settle", *call, *settle), self.worker)

    def _call(self, queue_set: str) -> ClaimCall:
        return ClaimCall(
            worker=self.worker,
            number=self.number,
            nonce=self.nonce,
            queue_set=queue_set,
            time=broker.rq_time(),
            lease=conf.current().lease,
        )


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job whose claim was ended by a rescue. ``ending``: waiting, failed, canceled or ended."""

    id: str
    name: str
    queue: str
    attempt: int
    ending: str


REAP_WITHIN = 2.0
"""Seconds within which Redis must carry out a rescue by leases: by then they are renewed."""

RescueReason = Literal["crashed", "timeout", "canceled", "handed_back"]


def rescue(
    connection: redis_py.Redis, why: RescueReason, message: str, worker: str = "", job_id: str = ""
) -> list[Rescued]:
    """End the claim of a dead worker, only on ``job_id`` if given.

    Without a worker: end up to 100 claims whose lease has run out, unless Redis stalls meanwhile.
    """
    jobs = [job_id] if job_id else []
    deadline = "" if worker else f"{broker.redis_time(connection) + REAP_WITHIN:.6f}"
    reply = broker.run(
        connection, "rescue", broker.rq_time(), why, worker, message, deadline, *jobs
    )

    return [
        Rescued(id, name, queue, int(attempt), ending)
        for id, name, queue, attempt, ending in _fives(reply)
    ]


@dataclass(frozen=True, slots=True)
class Buried:
    """A job that has waited too long for code; ``message`` is what the workers said."""

    id: str
    name: str
    queue: str
    attempt: int
    message: str


def bury(connection: redis_py.Redis, queues: Sequence[str], wait: float) -> list[Buried]:
    """End jobs that have waited ``wait`` seconds for code which no worker of their queue knows."""
    reply = broker.run(connection, "bury", broker.rq_time(), wait, *queues)
    return [
        Buried(id, name, queue, int(attempt), str(json.loads(verdict).get("message", "")))
        for id, name, queue, attempt, verdict in _fives(reply)
    ]


def _fives(reply: Sequence[Any]) -> Iterator[list[str]]:
    parts = [broker.text(part) for part in reply]
    for start in range(0, len(parts), 5):
        yield parts[start : start + 5]


def _answer(reply: list[Any], worker: str) -> Answer:
    settled, due, job_id, *values = reply
    quiet = due == b"quiet"
    return Answer(
        settled=bool(settled),
        claim=claim_of(broker.text(job_id), values, worker) if job_id else None,
        next_due=float(due) if due and not quiet else None,
        canceled=settled == 2,
        quiet=quiet,
    )


def claim_of(job_id: str, values: Sequence[bytes | None], worker: str = "") -> Claim:
    """Return a claim from the values of ``CLAIM_FIELDS`` in the job's hash."""
    stored = dict(zip(CLAIM_FIELDS, values, strict=True))
    data = stored.pop(job_hash.DATA)
    found = {name: broker.text(value) for name, value in stored.items()}
    since = found[job_hash.WAITING_SINCE]

    return Claim(
        id=job_id,
        name=found[job_hash.NAME],
        data=data or b"",
        queue=found[job_hash.QUEUE],
        attempt=int(found[job_hash.ATTEMPT] or 1),
        max_attempts=int(found[job_hash.MAX_ATTEMPTS] or 3),
        timeout=_seconds(found[job_hash.TIMEOUT] or found[job_hash.RQ_TIMEOUT]),
        database=found[job_hash.DATABASE] or "default",
        generation=int(found[job_hash.GENERATION] or 0),
        organization_id=found[job_hash.ORGANIZATION],
        user_id=found[job_hash.USER],
        context=found[job_hash.CONTEXT],
        run=found[job_hash.RUN],
        since=float(since) if since else None,
        priority=int(found[job_hash.PRIORITY] or 5),
        worker=worker,
        version=int(found[job_hash.VERSION] or 1),
    )


def _seconds(timeout: str) -> float:
    """Return the time limit of a run. RQ writes -1 for a foreign job without a limit."""
    seconds = float(timeout or 0)
    return math.inf if seconds < 0 else seconds or conf.current().default_timeout
