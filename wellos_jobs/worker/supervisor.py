"""The supervisor: keeps workers alive, renews leases, kills hung workers, rescues lost jobs.

It has one thread and no database connection. It runs the housekeeping process only while it holds
the leader's lock.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import socket
import time
import uuid
from dataclasses import dataclass
from types import FrameType
from typing import Any

from django.db import connections

from .. import broker, conf
from ..broker import queues, rq_workers
from ..broker.rq_commands import Command, Commands
from ..processes.child import Child, close_lifeline, fork
from ..processes.growing_pause import GrowingPause
from ..processes.intervals import IntervalTimer
from ..processes.shared_memory import Order, Slot
from ..processes.stop_signals import on_stop
from .heartbeat import Heartbeat
from .known_code import SET_TTL, bury, register
from .rescue import RescueQueue
from .service_processes import CLOCK, HOUSEKEEPING, ServiceProcesses
from .worker import DONE, INTERRUPTED, STOPPED, WORN, Worker, WorkerOptions

logger = logging.getLogger("wellos_jobs")

SUPERVISE_EVERY = 1.0
LOOP_PAUSE = 0.25
LEAD_TTL_MS = 3_000
LEAD_EVERY = 0.75
STAND_BACK = 5.0
"""Seconds for which a supervisor leaves the lead to others, after its housekeeping has failed."""
REAP_EVERY = 1.0
REAP_GRACE = 6.0
"""Seconds of unbroken connection before leases may run out: supervisors renew every five."""
TIMEOUT_GRACE = 10.0
"""Seconds past its timeout after which a run that swallows the exception is killed."""
STOP_GRACE = 5.0
"""Seconds that a run has to end after an order to stop or hand back, before it is killed."""
STARTUP_SECONDS = 10.0
"""A worker that dies within these seconds without having started a job cannot start at all."""
HEARTBEAT_TIMEOUT = 30.0
"""Seconds without a heartbeat after which an idle worker counts as hung."""


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """Options of `rqworker`, or of `rqscheduler` (``clock``, no processes).

    Times in seconds. ``shutdown_timeout`` is how long running jobs may take to finish.
    """

    worker: WorkerOptions
    processes: int = 1
    name: str | None = None
    shutdown_timeout: float = 25.0
    worker_ttl: int = 90
    timeout_grace: float = TIMEOUT_GRACE
    stop_grace: float = STOP_GRACE
    clock: bool = False


class Supervisor:
    """Runs until a signal, or until its workers are done."""

    def __init__(self, options: SupervisorOptions) -> None:
        self.options = options
        self.source = options.worker.source
        self.connection = broker.source_client(self.source, "work")
        self.token = uuid.uuid4().hex

        # The key of a worker holds its claim: it must outlive the lease.
        self._worker_ttl = max(options.worker_ttl, math.ceil(2 * conf.current().lease))
        self.workers: dict[int, Child] = {}
        self.services = ServiceProcesses(self.source)
        self.stop_by: float | None = None

        self._spawned = 0
        self._spare_slots = [Slot() for _ in range(options.processes)]
        self._rescues = RescueQueue(self.connection, options.worker.queues)
        self._spawn_pause = GrowingPause(0.2, 5.0)
        self._spawn_after = 0.0

        self.intervals = IntervalTimer()
        self._commands = Commands(self.connection)
        kind = "workers" if options.processes else "clock"
        self.heartbeat = Heartbeat(
            self.connection,
            self.token,
            kind,
            options.worker.queues,
            self._worker_ttl,
            options.worker.queue_set,
        )

        self._redis_down = False
        self._connected_since = time.monotonic()
        self._leading = False
        self._stands_back_until = 0.0
        self._next_due = SUPERVISE_EVERY
        """Seconds until the next delayed job is due, as of the last ``supervise``."""

    # --- the loop ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Supervise; return the exit status."""
        wake = self._install_signals()
        self._with_redis(self._register)
        self._with_redis(self._listen)  # before there is a worker that commands may be sent to
        for _ in range(self.options.processes):
            if self.stop_by is None:
                self._spawn_worker()

        while self.workers or self._still_to_rescue() or self._must_continue():
            self._collect()
            self._kill_hung()
            self._stop()
            if self._rescues:
                self._with_redis(self._rescues.carry_out)
            self._run_due_tasks()
            self._with_redis(self._listen)
            self._replace()

            select.select([wake], [], [], min(LOOP_PAUSE, self._next_due))
            self._drain(wake)

        if self._rescues:
            logger.warning(
                "supervisor: exiting while Redis is unavailable: the leases of its jobs will expire"
            )
        return self._leave()

    def _run_due_tasks(self) -> None:
        if self.intervals.is_due("supervise", min(SUPERVISE_EVERY, self._next_due)):
            self._next_due = self._with_redis(self._supervise) or SUPERVISE_EVERY
        if self.intervals.is_due("renew", conf.current().lease / 4):
            self._with_redis(self._renew)
        if self.intervals.is_due("lead", LEAD_EVERY):
            self._lead()
        if self._may_reap() and self.intervals.is_due("reap", REAP_EVERY):
            self._with_redis(self._rescues.reap)

    def _must_continue(self) -> bool:
        """Whether to keep running: a worker is to be started, or there are none (rqscheduler)."""
        return self.stop_by is None and (bool(self._spare_slots) or self.options.processes == 0)

    def _still_to_rescue(self) -> bool:
        """Whether to wait for rescues. Once it stops: for a short time, and only with Redis."""
        if self.stop_by is None or not self._rescues:
            return bool(self._rescues)
        return not self._redis_down and time.monotonic() <= self.stop_by + self.options.stop_grace

    def _with_redis(self, duty: Any) -> Any:
        """Call ``duty``, which uses Redis. When Redis is unavailable, log it once and continue."""
        try:
            with broker.refusals_as_unavailable():
                result = duty()
        except broker.Unavailable as error:
            if not self._redis_down:
                logger.warning("supervisor: Redis is unavailable, continuing without it: %s", error)
            self._redis_down = True
            self._commands.drop()
            self._connected_since = time.monotonic()
            return None
        except broker.Error as error:  # a key of another type, a missing permission: continue
            logger.error("supervisor: a call failed, Redis says: %s", error)
            return None

        if self._redis_down:
            logger.info("supervisor: Redis is back")
            self._redis_down = False
        return result

    # --- workers start and end --------------------------------------------------------------------

    def _spawn_worker(self) -> None:
        slot = self._spare_slots.pop()
        self._spawned += 1
        name = self._worker_name()
        options = self.options.worker
        child = fork(name, slot, lambda: Worker(name, options, slot).work())
        self.workers[child.pid] = child
        self._with_redis(lambda: self._birth(name, child.pid))
        logger.info("worker %s started, pid %d", name, child.pid)

    def _worker_name(self) -> str:
        # Two containers may have the same host name and process id: the token distinguishes them.
        base = self.options.name or f"{socket.gethostname()}-{os.getpid()}-{self.token[:4]}"
        if self.options.name and self.options.processes == 1:
            return base
        return f"{base}-{self._spawned}"

    def _birth(self, name: str, pid: int) -> None:
        rq_workers.birth(
            self.connection, name, self.options.worker.queues, pid, self._worker_ttl, self.token
        )

    def _collect(self) -> None:
        """Handle all children that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.services.ended(pid, status):
                self.intervals.make_due("lead")  # at once: until then no event is applied
            elif pid in self.workers:
                self._ended(self.workers.pop(pid), status)

    def _ended(self, child: Child, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        close_lifeline(child)
        in_a_job = child.slot.run is not None
        by_itself = code in (DONE, STOPPED, WORN, INTERRUPTED)
        clean = by_itself and not in_a_job  # a job may call os._exit(0)
        if not clean or code == INTERRUPTED:
            child.kill_group()  # what the run had started would work beside the next attempt

        self._rescues.add(child, clean=clean, how=_how(code))
        self._spare_slots.append(child.slot)
        level = logging.INFO if clean else logging.WARNING
        logger.log(level, "worker %s ended, pid %d (%s)", child.name, child.pid, _how(code))

        if clean and (code == DONE or child.told_to_stop):  # else it is replaced
            self._spare_slots.pop()

        # A worker that cannot start at all must not cause a fork storm.
        now = time.monotonic()
        cannot_start = not clean and child.slot.number == 0 and now - child.born < STARTUP_SECONDS
        if cannot_start:
            self._spawn_after = now + self._spawn_pause.next()
        else:
            self._spawn_after = now
            self._spawn_pause.reset()

    def _replace(self) -> None:
        if self.stop_by is not None or self._rescues:  # the new worker may have the dead one's name
            return
        if self._spare_slots and not self.heartbeat.quiet and time.monotonic() >= self._spawn_after:
            self._spawn_worker()

    def _may_reap(self) -> bool:
        return (
            self._leading
            and not self._redis_down
            and time.monotonic() - self._connected_since > REAP_GRACE
        )

    # --- hung runs, orders to stop ----------------------------------------------------------------

    def _kill_hung(self) -> None:
        now = time.monotonic()
        for child in self.workers.values():
            run = child.slot.run
            if run is None:
                if now - child.slot.last_beat > HEARTBEAT_TIMEOUT:
                    logger.warning("worker %s sends no heartbeat, killing it", child.name)
                    child.kill("handed_back")
            elif now > run.deadline + self.options.timeout_grace:
                logger.warning(
                    "worker %s: job=%s is past its timeout, killing it", child.name, run.job_id
                )
                child.kill("timeout", run)
            elif order := child.overdue(run):
                logger.warning(
                    "worker %s: job=%s does not obey %s, killing it",
                    child.name,
                    run.job_id,
                    order.name,
                )
                child.kill("canceled" if order is Order.STOP_JOB else "handed_back", run)

        self.services.kill_hung()

    def _stop(self) -> None:
        """When asked to stop: signal each worker; once the time is over, take back open jobs."""
        if self.stop_by is None:
            return

        now = time.monotonic()
        for child in self.workers.values():
            if not child.told_to_stop:
                child.send(signal.SIGTERM)
                child.told_to_stop = True
            run = child.slot.run
            if run is not None and now > self.stop_by:
                child.order(Order.HAND_BACK, run, self.options.stop_grace)
            elif run is None and now > self.stop_by + self.options.stop_grace:
                child.kill("handed_back")  # it hangs outside a job, as when Redis stays down

    def _stop_job(self, job_id: str) -> None:
        for child in self.workers.values():
            run = child.slot.run
            if run is not None and run.job_id == job_id:
                child.order(Order.STOP_JOB, run, self.options.stop_grace)

    # --- tasks in Redis ---------------------------------------------------------------------------

    def _register(self) -> None:
        options = self.options.worker
        register(self.connection, options.queue_set, options.queues)
        queues.announce_fair(self.source)

    def _supervise(self) -> float:
        options = self.options.worker
        names = [child.name for child in self.workers.values()]
        known, due, waits_for_code, *to_stop = broker.run(
            self.connection,
            "supervise",
            broker.rq_time(),
            options.queue_set,
            SET_TTL,
            len(options.queues),
            *options.queues,
            *names,
        )

        if not known:
            self._register()
        if waits_for_code and names:
            bury(self.connection, options.queues)
            connections.close_all()  # a signal receiver may have opened one
        for job_id in to_stop:
            self._stop_job(broker.text(job_id))
        return max(float(due), 0.02) if due else SUPERVISE_EVERY

    def _renew(self) -> None:
        alive = [child for child in self.workers.values() if not child.killed_for]
        forgotten = self.heartbeat.renew(alive)
        for child in alive:
            if child.name in forgotten:
                self._birth(child.name, child.pid)

    def _lead(self) -> None:
        if self.services.is_failing(HOUSEKEEPING) and self.stop_by is None:
            self._hand_on_the_lead()
        if time.monotonic() < self._stands_back_until:
            return

        held = self._with_redis(
            lambda: broker.run(self.connection, "lead", "leader", self.token, LEAD_TTL_MS)
        )
        self._leading = bool(held)
        if self._leading and (self.stop_by is None or self.workers):
            self.services.start(HOUSEKEEPING)
        elif not self._leading and not self._redis_down:
            self.services.stop(HOUSEKEEPING)  # another process leads
        if self.options.clock and self.stop_by is None:
            self.services.start(CLOCK)

    def _hand_on_the_lead(self) -> None:
        """Let another supervisor lead: the housekeeping cannot run here."""
        logger.warning(
            "supervisor: the housekeeping has ended twice: another supervisor may lead for %d s",
            STAND_BACK,
        )
        self._with_redis(lambda: broker.run(self.connection, "resign", "leader", self.token))
        self._leading = False
        self._stands_back_until = time.monotonic() + STAND_BACK

    def _listen(self) -> None:
        """Obey RQ's commands to our workers."""
        for command in self._commands.read():
            for child in self.workers.values():
                if child.name == command.worker:
                    self._obey(child, command)

    def _obey(self, child: Child, command: Command) -> None:
        if command.verb in {"stop-job", "stop-execution"}:
            self._stop_job(command.job_id)
        elif command.verb == "kill-horse" and child.slot.run:
            child.kill("crashed")
        elif command.verb == "shutdown":
            child.told_to_stop = True
            child.send(signal.SIGTERM)

    # --- signals and the end ----------------------------------------------------------------------

    def _install_signals(self) -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        on_stop(self._on_stop)
        return reader

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.stop_by is None:
            self.stop_by = now + self.options.shutdown_timeout
        else:
            self.stop_by = min(self.stop_by, now)  # asked twice: hurry

    @staticmethod
    def _drain(wake: int) -> None:
        try:
            while os.read(wake, 512):
                pass
        except BlockingIOError:
            return

    def _leave(self) -> int:
        """Stop the services (maintenance applies the last events), release the leader's lock."""
        self.services.leave(self._collect, leads=self._leading)

        self._with_redis(lambda: broker.run(self.connection, "resign", "leader", self.token))
        self._with_redis(self.heartbeat.end)
        signal.set_wakeup_fd(-1)
        return 0


def _how(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
