"""One worker process: claim, run, settle; block on the bell while there is no work."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from .. import broker, signals
from ..broker import keys, sentinels
from ..broker.claims import EVENT_OF, Answer, Claim, Claimer, Outcome, QueueSetUnknown
from ..errors import JobHandedBack, JobStopped
from ..payload.rq_calls import name_of
from ..processes.child import memory_of
from ..processes.forks import reset_handlers_in_forks
from ..processes.growing_pause import GrowingPause
from ..processes.shared_memory import Order, Slot
from ..processes.stop_signals import on_stop
from ..states import EventName, FailureReason
from . import execution
from .known_code import register
from .progress import Reporter
from .rq_jobs import ForeignRunner
from .timeouts import RunTimer
from .transactions import TransactionWatch

logger = logging.getLogger("wellos_jobs")

DONE = 0
"""Exit status of a process that has reached the end that its options set."""
STOPPED = 74
"""Exit status after a stop signal. Unless the supervisor has sent it, the process is replaced."""
WORN = 75
"""Exit status of a process to be replaced: it has run its number of jobs, or has grown."""
INTERRUPTED = 76
"""Exit status of a process to be replaced: after an interrupted run its state is not safe."""

QUIET_LOOK = 1.0
"""Seconds after which a quiet worker asks whether it may take jobs again."""

_NOTHING = Answer(settled=False, claim=None, next_due=None)


class _Wake(BaseException):
    """Raised by the signal handler to leave the blocking wait."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of one worker process. Times in seconds, memory in bytes.

    After ``max_jobs`` it is done. After ``recycle_jobs``, or once it uses more than
    ``recycle_memory``, it is replaced.
    """

    source: str
    queues: Sequence[str]
    queue_set: str
    burst: bool = False
    max_jobs: int | None = None
    max_idle: float | None = None
    recycle_jobs: int | None = None
    recycle_memory: int | None = None


class Worker:
    """Works until it is stopped, or has reached the end that its options set."""

    def __init__(self, name: str, options: WorkerOptions, slot: Slot) -> None:
        self.name = name
        self.options = options
        self.slot = slot
        self.connection = broker.source_client(options.source, "claim")
        self.claimer = Claimer(name, options.queue_set, self.connection)
        self.timer = RunTimer()
        self.foreign = ForeignRunner(self.claimer, options.source, options.queues)
        self.stopping = False
        self.jobs_done = 0
        self.interrupted = False
        self.worn = False
        self._waiting = False
        self._idle_since = time.monotonic()
        self._pid = os.getpid()
        self._transactions = TransactionWatch("a receiver of a signal")

    def work(self) -> int:
        """Run the loop; return the process's exit status."""
        self._install_signals()
        sentinels.while_connecting(self.slot.beat)

        answer = self._claim()
        while True:
            try:
                if answer.claim is not None:
                    answer = self._handle(answer.claim)
                elif self._finished(answer.next_due):
                    break
                else:
                    self._wait(answer)
                    answer = self._claim()
            except _Wake:
                answer = _NOTHING

        self._ring()
        return self._status()

    def _status(self) -> int:
        if self.interrupted:
            return INTERRUPTED
        if self._has_done_all():
            return DONE
        if self.stopping:
            return STOPPED
        return WORN if self.worn else DONE

    # --- one job ----------------------------------------------------------------------------------

    def _handle(self, claim: Claim) -> Answer:
        # The run begins before job_started is sent, so that a hanging receiver is covered by the
        # job's timeout.
        self.slot.begin(claim.id, claim.timeout)
        self._announce(claim, EventName.STARTED)
        self._transactions.end()  # that a receiver of a signal has left open
        self.slot.extend(claim.timeout)

        outcome = self._run(claim)
        self.slot.end()
        if outcome is None or outcome.kind != "waits_for_code":
            self.jobs_done += 1
        self.worn = self._is_worn()
        self._idle_since = time.monotonic()

        self.interrupted = self._was_interrupted(outcome)
        if outcome is None:
            if self.foreign.ending is not None:
                self._announce(claim, self.foreign.ending)
            return _NOTHING if self._stops_here() else self._claim()

        return self._settle(claim, outcome)

    def _was_interrupted(self, outcome: Outcome | None) -> bool:
        """Return whether a run was ended from outside its code."""
        if outcome is None:
            return self.foreign.timed_out
        timed_out = outcome.reason is FailureReason.TIMEOUT
        return timed_out or outcome.kind in ("canceled", "handed_back")

    def _run(self, claim: Claim) -> Outcome | None:
        """Run the job; None if RQ's code has run it and stored how it ended."""
        if self.stopping:
            return Outcome("handed_back", message="the worker stops")
        if claim.is_foreign:
            return self.foreign.run(claim)

        reporter = Reporter(self.claimer, claim)
        outcome = execution.run(claim, self.timer, reporter)
        reporter.flush()
        return outcome

    def _settle(self, claim: Claim, outcome: Outcome) -> Answer:
        claim_next = not self._stops_here()
        answer = self._call(
            lambda: self.claimer.settle(claim, outcome, claim_next=claim_next),
            lambda: self.claimer.repeat_settle(claim, outcome, claim_next=claim_next),
        )
        if answer.settled:
            event = EventName.CANCELED if answer.canceled else EVENT_OF[outcome.kind]
            note = f"{outcome.error_class}: {outcome.message}" if outcome.error_class else ""
            self._announce(claim, event, note)
        else:
            logger.warning(
                "stale run of job=%s: it lost its claim while it ran, its outcome %s is dropped",
                claim.id,
                outcome.kind,
            )

        if claim_next and answer.claim is None and not answer.settled:
            # Redis may have come back empty: without the queue set a settle claims nothing, and a
            # burst would end. Claiming registers the set again.
            return self._claim()
        return answer

    def _announce(self, claim: Claim, event: EventName, note: str = "") -> None:
        signals.announce(
            event,
            job_id=claim.id,
            name=claim.name or name_of(claim.data),
            queue=claim.queue,
            attempt=claim.attempt,
            at=datetime.now(UTC),
            note=note,
        )

    # --- between jobs -----------------------------------------------------------------------------

    def _stops_here(self) -> bool:
        return self.interrupted or self.worn or self.stopping or self._has_done_all()

    def _has_done_all(self) -> bool:
        limit = self.options.max_jobs
        return limit is not None and self.jobs_done >= limit

    def _is_worn(self) -> bool:
        jobs, memory = self.options.recycle_jobs, self.options.recycle_memory
        if jobs is not None and self.jobs_done >= jobs:
            logger.info("worker %s is replaced after %d jobs", self.name, self.jobs_done)
            return True

        used = None if memory is None else memory_of(os.getpid())
        if memory is not None and used is not None and used > memory:
            logger.info("worker %s is replaced: it uses %d MiB of memory", self.name, used // 2**20)
            return True
        return False

    def _finished(self, next_due: float | None) -> bool:
        if self._stops_here():
            return True
        if self.options.burst:
            # 0: a job is due, or there were more dead entries than one claim may drop.
            return next_due != 0.0
        most = self.options.max_idle
        return most is not None and time.monotonic() - self._idle_since >= most

    def _wait(self, answer: Answer) -> None:
        """Block until the bell rings, the next delayed job is due, or BLOCK_SECONDS are over.

        A quiet worker does not wait for the bell: its token wakes only one worker, and that must be
        one that takes jobs.
        """
        seconds = self._longest_wait(answer)
        self.slot.beat()
        if seconds < 0.002:
            return

        bell = broker.source_client(self.options.source, "block")
        try:
            self._waiting = True
            if answer.quiet and not self.stopping:
                time.sleep(seconds)
            elif not self.stopping:
                with broker.refusals_as_unavailable():
                    bell.blpop([keys.bell(self.options.queue_set)], timeout=seconds)
        except broker.Unavailable as error:
            logger.warning("worker %s: Redis is unavailable while idle: %s", self.name, error)
        finally:
            self._waiting = False

    def _longest_wait(self, answer: Answer) -> float:
        seconds = broker.BLOCK_SECONDS
        if answer.next_due is not None:
            seconds = min(answer.next_due, seconds)
        if answer.quiet:
            seconds = QUIET_LOOK
        if self.options.max_idle is not None:
            seconds = min(seconds, self.options.max_idle)
        return seconds

    def _ring(self) -> None:
        try:
            broker.run(self.connection, "pass_on_bell", self.options.queue_set)
        except broker.Unavailable as error:
            logger.warning("worker %s: Redis is unavailable while leaving: %s", self.name, error)

    # --- Redis that may be down -------------------------------------------------------------------

    def _claim(self) -> Answer:
        return self._call(self.claimer.claim, self.claimer.repeat_claim, ends_on_stop=True)

    def _call(
        self,
        first: Callable[[], Answer],
        again: Callable[[], Answer],
        *,
        ends_on_stop: bool = False,
    ) -> Answer:
        """Make a call, and resend it until Redis answers: it is numbered, so it counts once.

        With ``ends_on_stop`` a worker that is to stop resends it no more.
        """
        if os.getpid() != self._pid:
            os._exit(1)  # a fork that a receiver of a signal has made: it is no worker

        pause = GrowingPause(0.05, 1.0)
        call, logged = first, False
        while True:
            try:
                return call()
            except broker.Unavailable as error:
                if not logged:
                    logger.warning(
                        "worker %s: Redis is unavailable, waiting for it: %s", self.name, error
                    )
                call, logged = again, True
            except QueueSetUnknown:
                call = self.claimer.claim
                if self._register():
                    continue

            self.slot.beat()
            if self.stopping and ends_on_stop:
                # The supervisor hands back a job that the lost reply may have claimed.
                return _NOTHING
            time.sleep(pause.next())

    def _register(self) -> bool:
        """Register the queue set. Returns whether Redis has it."""
        try:
            register(self.connection, self.options.queue_set, self.options.queues)
        except broker.Unavailable as error:
            logger.warning(
                "worker %s: Redis is unavailable while registering: %s", self.name, error
            )
            return False
        return True

    # --- signals ----------------------------------------------------------------------------------

    def _install_signals(self) -> None:
        on_stop(self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_order)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        reset_handlers_in_forks()

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
        if self._waiting:
            raise _Wake

    def _on_order(self, _signal: int, _frame: FrameType | None) -> None:
        errors: dict[Order, Any] = {Order.STOP_JOB: JobStopped, Order.HAND_BACK: JobHandedBack}
        error = errors.get(self.slot.order)
        if error is not None:
            self.timer.interrupt(error())
