"""The engine inside the test's own process: a worker that acts when told, and a ledger that folds
when told.

Both are the real ones on the real Redis; only the processes around them are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings

from wellos_jobs import JobHandle, broker
from wellos_jobs.broker import events, keys, rq_workers
from wellos_jobs.broker.claims import Claim, Claimer, Outcome
from wellos_jobs.broker.events import Event
from wellos_jobs.database import default_database
from wellos_jobs.ledger.ledger import Ledger
from wellos_jobs.models import JobRecord
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.worker import execution
from wellos_jobs.worker.known_code import SET_TTL, bury, queue_set_of, register
from wellos_jobs.worker.progress import Reporter
from wellos_jobs.worker.rq_jobs import ForeignRunner
from wellos_jobs.worker.timeouts import RunTimer
from wellos_jobs.worker.worker import Worker, WorkerOptions

from .proxies import CuttingProxy
from .round_trips import SETUP

EPOCH = "epoch-of-the-test"


class Hand:
    """One worker, step by step. Without queues it serves all of them, in the order of the
    settings. Workers with another ``code`` have another queue set; None: the code of this
    process."""

    def __init__(self, *queues: str, name: str = "hand", code: str | None = None) -> None:
        self.name = name
        self.queues = list(queues or settings.RQ_QUEUES)
        self.queue_set = (
            queue_set_of(self.queues) if code is None else keys.set_id(self.queues, code)
        )
        self.source = broker.source_of(self.queues[0])
        self.connection = broker.source_client(self.source, "work")
        rq_workers.birth(self.connection, name, self.queues, pid=1, ttl=90)
        register(self.connection, self.queue_set, self.queues)
        self.claimer = Claimer(name, self.queue_set, self.connection)
        self.timer = RunTimer()

    def claim(self) -> Claim | None:
        """Ask for a job once."""
        return self.claimer.claim().claim

    def take(self) -> Claim:
        """Claim a job that has to be there."""
        claim = self.claim()
        assert claim is not None, "there is no job to claim"
        return claim

    def names(self, count: int) -> list[str]:
        """Claim ``count`` jobs without running them; return their names."""
        return [self.take().name for _ in range(count)]

    def run(self, claim: Claim | None = None) -> Outcome:
        """Run a claimed job (the next one by default) and settle how it ended."""
        claim = claim or self.take()
        reporter = Reporter(self.claimer, claim)
        outcome = execution.run(claim, self.timer, reporter)
        reporter.flush()
        assert self.settle(claim, outcome)
        return outcome

    def settle(self, claim: Claim, outcome: Outcome) -> bool:
        """Settle without claiming; return whether the claim still held."""
        return self.claimer.settle(claim, outcome, claim_next=False).settled

    def foreign(self) -> ForeignRunner:
        """Return what runs this worker's foreign jobs."""
        return ForeignRunner(self.claimer, self.source, self.queues)

    def supervise(self) -> list[Any]:
        """Do what a supervisor does each second."""
        count = len(self.queues)
        arguments = (broker.rq_time(), self.queue_set, SET_TTL, count, *self.queues, self.name)
        return list(broker.run(self.connection, "supervise", *arguments))

    def bury(self) -> None:
        """Do what a supervisor does while jobs wait for code."""
        self.supervise()
        bury(self.connection, self.queues)

    def is_bell_rung(self) -> bool:
        return bool(self.connection.llen(keys.bell(self.queue_set)))


class _Unsignalled(Worker):
    """A worker that leaves the signals of the test's process alone."""

    def _install_signals(self) -> None:
        return


def work(*queues: str, name: str = "burst", **options: Any) -> Worker:
    """Run a worker until nothing is left to do (``burst``); return it."""
    hand = Hand(*queues, name=name)
    chosen = WorkerOptions(hand.source, hand.queues, hand.queue_set, burst=True, **options)
    worker = _Unsignalled(name, chosen, Slot())
    worker.work()
    return worker


class Books:
    """The ledger of one database, folded on call."""

    def __init__(self, database: str | None = None, source: str = "default") -> None:
        self.connection = broker.source_client(source, "work")
        self.connection.set(keys.EPOCH, EPOCH, nx=True)
        self.database = database or default_database()
        self.ledger = Ledger(source, self.database, self.connection)
        self.ledger.open(EPOCH)

    def fold(self) -> int:
        """Fold all there is; return how many events that were."""
        folded = 0
        while count := self.ledger.drain():
            folded += count
        return folded

    def row(self, handle: JobHandle) -> JobRecord:
        """Fold, then return a job's row."""
        self.fold()
        return JobRecord.objects.using(self.database).get(pk=handle.id)


def stream() -> list[Event]:
    """Return the events that are in Redis."""
    return events.read(broker.client("default"), events.START, 100_000)[1]


def event_names(handle: JobHandle) -> list[str]:
    """Return the names of a job's events, in order."""
    return [event.event.value for event in stream() if event.job_id == str(handle)]


@contextmanager
def listening(signal: Any) -> Iterator[list[dict[str, Any]]]:
    """Collect the arguments with which a signal is sent within the block."""
    heard: list[dict[str, Any]] = []

    def receive(sender: Any, **arguments: Any) -> None:
        del arguments["signal"]
        heard.append(arguments)

    signal.connect(receive)
    try:
        yield heard
    finally:
        signal.disconnect(receive)


class CountingProxy(CuttingProxy):
    """A proxy before Redis that notes each command as it passes the socket."""

    def __init__(self, server_url: str) -> None:
        super().__init__(server_url)
        self.commands: list[str] = []

    def due(self, request: bytes, reply: bytes) -> None:
        """Note a command that was answered."""
        self.commands.append(request.split(b"\r\n")[2].decode())

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        """Give a list of the commands that pass within the block (none is ever sent in a pipeline
        unawaited)."""
        seen: list[str] = []
        start = len(self.commands)
        yield seen
        seen += [name for name in self.commands[start:] if name not in SETUP]
