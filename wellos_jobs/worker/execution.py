"""Run one job: read and bind its data, open its context, call it, judge the outcome."""

from __future__ import annotations

import asyncio
import json
import random
import reprlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from .. import payload
from ..broker.claims import Claim, Outcome
from ..definitions import registry
from ..definitions.breaker import CircuitBreaker
from ..definitions.definition import JobDefinition
from ..definitions.retry import Fail, RetryAfter, RetryPolicy, SnoozeFor
from ..enqueueing.context import CurrentJob, running
from ..errors import (
    EncryptionError,
    JobHandedBack,
    JobStopped,
    JobTimeout,
    PayloadError,
    ResultNotStored,
    TransactionLeftOpen,
    UnknownJob,
)
from ..payload import failures
from ..payload.rq_calls import unzipped
from ..processes.forks import ForkGuard
from ..states import FailureReason
from . import log_capture
from .log_capture import RunLog, capture_logs
from .log_masking import mask_output
from .timeouts import RunTimer
from .transactions import TransactionWatch, close_stale_connections

ProgressCallback = Callable[[int, str, bool], None]
ErrorCallback = Callable[[BaseException], None]
Plain = Callable[[Callable[..., Any], str], Callable[..., Any]]
"""Makes a plain function of an async one and the job's id."""


def run(
    claim: Claim,
    timer: RunTimer,
    report: ProgressCallback | None = None,
    *,
    on_error: ErrorCallback | None = None,
    as_plain: Plain | None = None,
) -> Outcome:
    """Run a claimed job; return how it ended and what it logged.

    It raises nothing: every ending is an outcome. ``on_error`` gets the exception that ended the
    run; ``as_plain`` makes a plain function of an async one in another way than a worker's.
    """
    log = log_capture.new()
    state = _RunState(RetryPolicy(max_attempts=claim.max_attempts), as_plain or _in_loop, on_error)
    outcome = _run(claim, timer, report, log, state)
    return replace(outcome, log=log.as_detail()) if log is not None and log.lines else outcome


@dataclass(slots=True)
class _RunState:
    """How far a run has come, for judging its error."""

    policy: RetryPolicy
    as_plain: Plain
    on_error: ErrorCallback | None = None
    secrets: list[str] = field(default_factory=list)
    in_body: bool = False


def _run(
    claim: Claim,
    timer: RunTimer,
    report: ProgressCallback | None,
    log: RunLog | None,
    state: _RunState,
) -> Outcome:
    started = time.perf_counter()
    close_stale_connections()
    watch = TransactionWatch(f"job={claim.id}")
    try:
        result = _call(claim, timer, report, log, state, watch)
        seconds = time.perf_counter() - started
        return Outcome("completed", seconds, result=result, verdicts=_verdicts(claim, None))
    except _CodeMissing as missing:
        if state.on_error is not None:
            state.on_error(missing.error)
        return missing.outcome()
    except JobStopped:
        return Outcome("canceled", time.perf_counter() - started)
    except JobHandedBack:
        return Outcome("handed_back", time.perf_counter() - started, message="the worker stopped")
    except BaseException as error:  # SystemExit and the like end a run, never the worker
        if state.on_error is not None:
            state.on_error(error)
        return _judge(error, claim, state, time.perf_counter() - started)
    finally:
        watch.end()
        close_stale_connections()


def _call(
    claim: Claim,
    timer: RunTimer,
    report: ProgressCallback | None,
    log: RunLog | None,
    state: _RunState,
    watch: TransactionWatch,
) -> str:
    """Call the job's function; return its result as JSON."""
    definition = _definition(claim)
    state.policy = definition.policy

    stored = _read(claim)
    state.secrets = secrets = payload.secrets_in(stored)
    data = _arguments(definition, payload.decode(stored), claim.version)
    function = (
        state.as_plain(definition.function, claim.id)
        if definition.is_async
        else definition.function
    )

    with (
        running(_current(claim, data, _masking(report, secrets))),
        mask_output(secrets),
        capture_logs(log, secrets),
    ):
        state.in_body = True
        with ForkGuard(claim.id):
            value = timer.call(function, data, claim.timeout)
        watch.check()
        state.in_body = False

    return _result(value, secrets)


def _result(value: Any, secrets: Sequence[str]) -> str:
    """Return a result as JSON.

    Raises:
        ResultNotStored: it cannot be stored; the text says what it was, as a record of the work.
    """
    try:
        return payload.to_json(payload.encode_result(value))
    except PayloadError as error:
        # A value that was cut off could show a part of a secret, which masking does not find.
        shown = f"a {type(value).__name__}" if secrets else _shown.repr(value)
        raise ResultNotStored(
            f"The job has done its work, but its result cannot be stored: {error}. It returned"
            f" {shown}. A replay does the work again"
        ) from error


class _Shown(reprlib.Repr):
    """Shows plain values, shortened; of other objects only the class: their code is not run."""

    def repr_instance(self, x: Any, level: int) -> str:
        return f"<{type(x).__name__}>"


_shown = _Shown()
_shown.maxstring = 80


def _verdicts(claim: Claim, error: BaseException | None) -> str:
    """Return what the run says about the job's circuit breakers, as JSON; '' for nothing."""
    definition = registry.find(claim.name)
    limits = definition.limits if definition else ()
    breakers = [limit for limit in limits if isinstance(limit, CircuitBreaker)]
    if not breakers:
        return ""

    verdicts = {breaker.id: breaker.verdict(error) for breaker in breakers}
    return payload.to_json({name: verdict for name, verdict in verdicts.items() if verdict})


def _read(claim: Claim) -> dict[str, Any]:
    try:
        _, _, _, stored = json.loads(unzipped(claim.data))
    except (ValueError, TypeError, RecursionError) as error:
        raise PayloadError(
            f"the data of job {claim.id} is not the JSON that enqueue wrote: {error}"
        ) from error
    if not isinstance(stored, dict):
        raise PayloadError(f"the data of job {claim.id} is {type(stored).__name__}, not an object")
    return stored


class _CodeMissing(Exception):
    """This worker has older or other code than the job needs; another one may know it."""

    def __init__(self, reason: FailureReason, error: UnknownJob | PayloadError) -> None:
        super().__init__(str(error))
        self.reason = reason
        self.error = error

    def outcome(self) -> Outcome:
        described: dict[str, Any] = failures.describe(self.error, [])
        described["traceback"] = ""  # it shows this code only
        return Outcome("waits_for_code", reason=self.reason, **described)


def _definition(claim: Claim) -> JobDefinition:
    try:
        definition = registry.get(claim.name)
    except UnknownJob as error:
        raise _CodeMissing(FailureReason.UNKNOWN_JOB, error) from error

    if claim.version > definition.version:
        newer = UnknownJob(
            f"{claim.name}: the data have version {claim.version}, and this worker knows version "
            f"{definition.version}"
        )
        raise _CodeMissing(FailureReason.UNKNOWN_JOB, newer)
    return definition


def _arguments(definition: JobDefinition, data: dict[str, Any], version: int) -> dict[str, Any]:
    """Bring the data to the version of the function, and bind them: it may have changed since the
    enqueue."""
    upgraded = definition.upgraded(data, version)
    try:
        return definition.bind((), upgraded)
    except TypeError as error:
        unfit = PayloadError(str(error))
        if version == definition.version:
            raise _CodeMissing(FailureReason.BAD_PAYLOAD, unfit) from error
        raise unfit from error


def _in_loop(function: Callable[..., Any], job_id: str) -> Callable[..., Any]:
    """Return an async function as a plain one.

    Django runs async code's queries in a thread, which has connections of its own.
    """
    begin, end = sync_to_async(_begin_in_thread), sync_to_async(_end_in_thread)

    async def with_own_connections(**data: Any) -> Any:
        watch = await begin(job_id)
        try:
            with ForkGuard(job_id):
                value = await function(**data)
        finally:
            left = await end(watch)

        if left:
            raise TransactionLeftOpen(left)
        return value

    return lambda **data: asyncio.run(with_own_connections(**data))


def _begin_in_thread(job_id: str) -> TransactionWatch:
    close_stale_connections()
    return TransactionWatch(f"job={job_id}")


def _end_in_thread(watch: TransactionWatch) -> list[str]:
    left = watch.end()
    close_stale_connections()
    return left


def _current(claim: Claim, data: Mapping[str, Any], report: ProgressCallback | None) -> CurrentJob:
    return CurrentJob(
        id=claim.id,
        name=claim.name,
        queue=claim.queue,
        attempt=claim.attempt,
        max_attempts=claim.max_attempts,
        organization_id=claim.organization_id,
        requested_by_id=claim.user_id,
        database=claim.database,
        context=json.loads(claim.context) if claim.context else {},
        data=data,
        worker=claim.worker,
        replays=claim.generation,
        _report=report,
    )


def _masking(report: ProgressCallback | None, secrets: list[str]) -> ProgressCallback | None:
    """Mask secrets in progress messages, which more people can read than the job's data."""
    if report is None or not secrets:
        return report
    return lambda percent, message, final: report(percent, payload.redact(message, secrets), final)


def _as_judged(error: BaseException, policy: RetryPolicy) -> BaseException:
    """Return an error from the job's body as the retry policy sees it.

    Raised inside the body, such an error concerns another job, e.g. one the body enqueues, so it
    counts as an ordinary error.
    """
    about_a_job = isinstance(error, (PayloadError, EncryptionError, UnknownJob))
    if about_a_job and not isinstance(error, (*policy.retry_on, *policy.discard_on)):
        return RuntimeError(str(error))
    return error


def _judge(error: BaseException, claim: Claim, state: _RunState, seconds: float) -> Outcome:
    decision = state.policy.decide(
        _as_judged(error, state.policy) if state.in_body else error,
        claim.attempt,
        max_attempts=claim.max_attempts,
        random=random.random(),
        now=timezone.now(),
    )

    verdicts = _verdicts(claim, error) if state.in_body else ""
    details: dict[str, Any] = failures.describe(error, state.secrets)
    match decision:
        case RetryAfter(after):
            reason = FailureReason.TIMEOUT if isinstance(error, JobTimeout) else None
            return Outcome("retried", seconds, after, reason=reason, verdicts=verdicts, **details)
        case SnoozeFor(after):
            message = details["message"]
            return Outcome("snoozed", seconds, after, message=message, verdicts=verdicts)
        case Fail(reason):
            return Outcome("failed", seconds, reason=reason, verdicts=verdicts, **details)
