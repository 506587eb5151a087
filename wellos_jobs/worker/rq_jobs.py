"""Run jobs that were enqueued through RQ: RQ's own worker code runs them, under our lease."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal

import django_rq
from django_rq.workers import get_exception_handlers
from rq.exceptions import NoSuchJobError
from rq.job import Job, Retry
from rq.serializers import DefaultSerializer, JSONSerializer
from rq.timeouts import BaseTimeoutException, UnixSignalDeathPenalty
from rq.worker import SimpleWorker

from .. import broker, conf, payload
from ..broker import keys
from ..broker.claims import Claim, Claimer, Outcome
from ..broker.rq_fetch import bounded, fetch
from ..broker.rq_queue import LaneQueue
from ..errors import PayloadError
from ..payload import failures
from ..payload.rq_calls import PayloadTooLarge, check_id, read_call, unzipped
from ..processes.forks import ForkGuard
from ..states import EventName, FailureReason
from . import log_capture
from .log_capture import capture_logs
from .transactions import TransactionWatch, close_stale_connections


class _RunLimits(UnixSignalDeathPenalty):
    """RQ's time limit of a function or callback; also ends forks and transactions it left."""

    def __init__(self, timeout: Any, *args: Any, job_id: str = "", **kwargs: Any) -> None:
        super().__init__(timeout, *args, **kwargs)  # type: ignore[no-untyped-call]
        self._forks = ForkGuard(job_id)
        self._watch = TransactionWatch(f"job={job_id}" if job_id else "a callback")

    def __exit__(
        self,
        type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        self._forks.__exit__(type, value, traceback)
        super().__exit__(type, value, traceback)  # type: ignore[no-untyped-call]

        if value is None:
            self._watch.check()
        self._watch.end()
        return False


class _RqWorker(SimpleWorker):
    """RQ's worker; remembers the last error it has handled."""

    death_penalty_class = _RunLimits
    error: BaseException | None = None

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        self.error = exc_info[1]
        super().handle_exception(job, *exc_info)


class ForeignRunner:
    """Runs the foreign jobs of one worker process.

    RQ's retries, callbacks, dependencies and repeats work as in RQ.
    """

    def __init__(self, claimer: Claimer, source: str, queues: Sequence[str]) -> None:
        self._claimer = claimer
        self._source = source
        self._queues = queues
        self._worker: _RqWorker | None = None
        self.ending: EventName | None = None
        """How the last job ended; None if its claim was lost."""
        self.timed_out = False
        """Whether the last job was ended by RQ's time limit."""

    def run(self, claim: Claim) -> Outcome | None:
        """Run a foreign job.

        Returns an outcome to settle only if the payload must not be loaded, else None.
        """
        try:
            check_id(claim.id)
            unzipped(claim.data)
        except ValueError as error:  # stop and time limit would not find a run with such an id
            return _refused(error)

        call = read_call(claim.data)
        if call is None and not conf.current().allow_pickle:
            return Outcome(
                "failed",
                reason=FailureReason.BAD_PAYLOAD,
                error_class="PickledPayload",
                message=(
                    "The payload is pickled and was not loaded: enqueue with"
                    " rq.serializers.JSONSerializer, or set WELLOS_JOBS['ALLOW_PICKLE'] if you"
                    " trust everyone who can write to Redis"
                ),
            )

        started = time.perf_counter()
        log = log_capture.new()
        close_stale_connections()
        try:
            with capture_logs(log):
                ending = self._perform(claim, pickled=call is None)
        except PayloadTooLarge as error:
            return _refused(error)
        finally:
            close_stale_connections()

        self.timed_out = ending.get("reason") == FailureReason.TIMEOUT
        detail = {"run": round(time.perf_counter() - started, 6), **(call or {}), **ending}
        if log is not None:
            detail |= log.as_detail()
        self.ending = self._claimer.foreign_done(
            claim, ran_well=not ending.keys() - {"result"}, detail=payload.to_json(detail)
        )
        return None

    def _perform(self, claim: Claim, *, pickled: bool) -> dict[str, Any]:
        """Let RQ run the job; return its result, or what went wrong, for the ledger."""
        serializer = DefaultSerializer if pickled else JSONSerializer
        worker = self._rq_worker()
        queue: Any = django_rq.get_queue(
            claim.queue, connection=worker.connection, serializer=serializer, queue_class=LaneQueue
        )
        queue.job_class = bounded(queue.job_class)
        try:
            job = fetch(queue.job_class, claim.id, worker.connection, serializer)
        except NoSuchJobError:
            return {}  # deleted since the claim

        execution = worker.prepare_execution(job)
        # Our lease times this run: RQ's cleanup, run by any viewer, would treat a long one as
        # abandoned.
        worker.connection.zadd(keys.wip(claim.queue), {execution.composite_key: keys.FAR})
        if not worker.perform_job(job, queue, execution):
            return _error_of(worker)
        if isinstance(job._result, Retry):
            return {"message": "The job returned rq.Retry", "error_class": "rq.Retry"}
        return _result(job)

    def _rq_worker(self) -> _RqWorker:
        if self._worker is None:
            connection = broker.source_client(self._source, "block")
            queues = [
                django_rq.get_queue(name, connection=connection, queue_class=LaneQueue)
                for name in self._queues
            ]
            self._worker = _RqWorker(
                queues,
                name=self._claimer.worker,
                connection=connection,
                serializer=JSONSerializer,
                exception_handlers=get_exception_handlers(),  # type: ignore[no-untyped-call]
            )
        return self._worker


def _error_of(worker: _RqWorker) -> dict[str, Any]:
    error, worker.error = worker.error, None
    timed_out = isinstance(error, BaseTimeoutException)
    reason = FailureReason.TIMEOUT if timed_out else FailureReason.EXHAUSTED
    return {"reason": reason.value, **(failures.describe(error) if error is not None else {})}


def _refused(error: ValueError) -> Outcome:
    described: dict[str, Any] = failures.describe(error)
    return Outcome("failed", reason=FailureReason.BAD_PAYLOAD, **described)


def _result(job: Job) -> dict[str, Any]:
    """Return the result for the row; empty if JSON cannot carry it or it is too large: only RQ
    keeps it then."""
    try:
        return {"result": payload.to_json(payload.encode_result(job._result))}
    except PayloadError:
        return {}
