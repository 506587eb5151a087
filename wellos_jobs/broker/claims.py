"""A claim: one worker's right to run one job once; and the calls that make, settle and end claims."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import redis as redis_py

from .. import conf, payload
from ..states import EventName, FailureReason
from . import connection as broker

OutcomeKind = Literal["completed", "retried", "snoozed", "failed", "canceled", "handed_back"]

EVENT_OF: dict[OutcomeKind, EventName] = {
    "completed": EventName.COMPLETED,
    "retried": EventName.RETRIED,
    "snoozed": EventName.SNOOZED,
    "failed": EventName.FAILED,
    "canceled": EventName.CANCELED,
    "handed_back": EventName.SNOOZED,
}


class QueueSetUnknown(Exception):
    """Redis does not know the worker's set of queues: it came back empty."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in the hands of a worker. ``name`` is '' for a job that foreign code put in through RQ."""

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

    @property
    def is_foreign(self) -> bool:
        return not self.name


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``after`` is the delay in seconds of a retry or snooze, ``seconds`` the run time."""

    kind: OutcomeKind
    seconds: float = 0.0
    after: float = 0.0
    result: str = ""
    reason: FailureReason | None = None
    error_class: str = ""
    message: str = ""
    traceback: str = ""
    verdicts: str = ""
    """What the run tells about the dependencies of its circuit breakers, as JSON by breaker; '' for none."""
    log: Mapping[str, Any] = field(default_factory=dict)
    """What the run has logged (``RunLog.told``)."""

    def detail(self) -> str:
        """Return what the event tells the ledger, as JSON."""
        told: dict[str, Any] = {"run": round(self.seconds, 6)}
        if self.kind == "completed":
            told["result"] = self.result
        if self.kind in ("retried", "snoozed"):
            told["after"] = round(self.after, 6)
        if self.reason is not None:
            told["reason"] = self.reason.value
        if self.error_class or self.message:
            told |= {
                "error_class": self.error_class,
                "message": self.message,
                "traceback": self.traceback,
            }
        return payload.to_json({**told, **self.log})


@dataclass(frozen=True, slots=True)
class Answer:
    """What Redis says to a claim or settle. ``next_due``: seconds until the next delayed job, None if there is none."""

    settled: bool
    claim: Claim | None
    next_due: float | None
    canceled: bool = False
    """The job was cancelled while it ran, and this outcome would have let it run again."""
    quiet: bool = False
    """Somebody has told this worker to take no more jobs."""


@dataclass(slots=True)
class Claimer:
    """One worker process towards Redis. Its calls are numbered, so that each may be sent again after a lost reply."""

    worker: str
    queue_set: str
    connection: redis_py.Redis
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    number: int = 0

    def claim(self) -> Answer:
        """Ask for a job. Raises QueueSetUnknown, or redis-py's errors: then ``repeat`` is safe."""
        self.number += 1
        return self._claim()

    def settle(self, claim: Claim, outcome: Outcome, *, claim_next: bool) -> Answer:
        """Store an outcome and, if wanted, claim the next job in the same round trip."""
        self.number += 1
        return self._settle(claim, outcome, claim_next)

    def repeat_claim(self) -> Answer:
        """Send the last claim again, after its reply was lost."""
        return self._claim()

    def repeat_settle(self, claim: Claim, outcome: Outcome, *, claim_next: bool) -> Answer:
        """Send the last settle again, after its reply was lost."""
        return self._settle(claim, outcome, claim_next)

    def foreign_done(self, claim: Claim, *, ran_well: bool, detail: str) -> EventName | None:
        """Tell that RQ's code has run a foreign job and stored its end; None if the claim was lost meanwhile."""
        arguments = (claim.id, claim.run, self.worker, "1" if ran_well else "", detail)
        name = broker.text(broker.run(self.connection, "foreign", *arguments))
        return EventName(name) if name else None

    def report_progress(self, claim: Claim, percent: int, message: str) -> bool:
        """Store progress; False if the claim was lost meanwhile."""
        detail = payload.to_json({"percent": percent, "message": message})
        return bool(
            broker.run(self.connection, "progress", claim.id, claim.run, percent, message, detail)
        )

    def _claim(self) -> Answer:
        try:
            return _answer(broker.run(self.connection, "claim", *self._call(self.queue_set)))
        except redis_py.ResponseError as error:
            if str(error).startswith("NOSET"):
                raise QueueSetUnknown(self.queue_set) from error
            raise

    def _settle(self, claim: Claim, outcome: Outcome, claim_next: bool) -> Answer:
        arguments = self._call(self.queue_set if claim_next else "")
        return _answer(
            broker.run(
                self.connection,
                "settle",
                *arguments,
                claim.id,
                claim.run,
                outcome.kind,
                f"{outcome.after:.6f}",
                f"{outcome.seconds:.6f}",
                outcome.detail(),
                outcome.result,
                outcome.message,
                outcome.verdicts,
            )
        )

    def _call(self, queue_set: str) -> tuple[Any, ...]:
        return (
            self.worker,
            self.number,
            self.nonce,
            queue_set,
            broker.rq_time(),
            conf.current().lease,
        )


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job whose claim was ended from outside, and what became of it: waiting, failed, canceled or ended."""

    id: str
    name: str
    queue: str
    attempt: int
    ending: str


RescueReason = Literal["crashed", "timeout", "canceled", "handed_back"]


def rescue(
    connection: redis_py.Redis, why: RescueReason, message: str, worker: str = "", job_id: str = ""
) -> list[Rescued]:
    """End the claim of a dead worker, on ``job_id`` only if given; without a worker, at most 100 that have run out."""
    jobs = [job_id] if job_id else []
    flat = [
        broker.text(part)
        for part in broker.run(connection, "rescue", broker.rq_time(), why, worker, message, *jobs)
    ]
    rows = zip(*[iter(flat)] * 5, strict=True)
    return [
        Rescued(job_id, name, queue, int(attempt), ending)
        for job_id, name, queue, attempt, ending in rows
    ]


def _answer(reply: list[Any]) -> Answer:
    settled, due, job_id, *fields = reply
    quiet = due == b"quiet"
    next_due = float(due) if due and not quiet else None
    claim = _claim(broker.text(job_id), fields) if job_id else None
    return Answer(bool(settled), claim, next_due, canceled=settled == 2, quiet=quiet)


def _claim(job_id: str, fields: list[bytes | None]) -> Claim:
    name, data, queue, attempt, most, timeout, database, *fields = fields
    generation, organization, user, context, run, since, priority, rq_timeout = fields
    return Claim(
        id=job_id,
        name=broker.text(name),
        data=data or b"",
        queue=broker.text(queue),
        attempt=int(attempt or 1),
        max_attempts=int(most or 3),
        timeout=_seconds(timeout or rq_timeout),
        database=broker.text(database) or "default",
        generation=int(generation or 0),
        organization_id=broker.text(organization),
        user_id=broker.text(user),
        context=broker.text(context),
        run=broker.text(run),
        since=float(since) if since else None,
        priority=int(priority or 5),
    )


def _seconds(timeout: bytes | None) -> float:
    """Return how long a run may take. RQ writes -1 for a job of foreign code without a limit."""
    seconds = float(timeout or 0)
    return math.inf if seconds < 0 else seconds or conf.current().default_timeout
