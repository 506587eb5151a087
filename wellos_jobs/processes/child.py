"""Forked children of a supervisor: started with a clean slate, and never outliving it."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from django.db import connections

from .slot import Order, Run, Slot

logger = logging.getLogger("wellos_jobs")

_PR_SET_PDEATHSIG = 1
_HAS_DEATH_SIGNAL = sys.platform == "linux"
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD)
"""The signals that the supervisor handles, and its children otherwise."""


def memory_of(pid: int) -> int | None:
    """Return the bytes of memory that a process holds (resident set size), None where the system does not tell."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order that a run was given, and until when it may take to obey."""

    run: int
    order: Order
    until: float


@dataclass(slots=True)
class Child:
    """A process that the supervisor started."""

    name: str
    pid: int
    slot: Slot
    born: float = field(default_factory=time.monotonic)
    killed_for: str = ""
    """Why the supervisor sent SIGKILL (timeout, canceled, handed_back), '' if it did not."""
    killed_job: str = ""
    """The job whose run the SIGKILL was meant for, '' if for none."""
    ordered: Ordered | None = None
    told_to_stop: bool = False

    def send(self, signal_number: int) -> None:
        """Send a signal; a child that is gone already is found by ``waitpid``."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal_number)

    def kill(self, why: str, run: Run | None = None) -> None:
        """Send SIGKILL and remember why, and because of which run."""
        if not self.killed_for:
            self.killed_for, self.killed_job = why, run.job_id if run else ""
        self.send(signal.SIGKILL)

    def memory(self) -> int | None:
        """Return the bytes of memory that it holds (resident set size), None where the system does not tell."""
        return memory_of(self.pid)

    def order(self, order: Order, run: Run, seconds: float) -> None:
        """Order something of a run, once; it has ``seconds`` to obey before it is ``overdue``."""
        if self.ordered is not None and self.ordered.run == run.number:
            return
        self.slot.give(order, run)
        self.ordered = Ordered(run.number, order, time.monotonic() + seconds)
        self.send(signal.SIGUSR1)

    def overdue(self, run: Run) -> Order:
        """Return the order that this run should have obeyed by now, Order.NONE if there is none."""
        ordered = self.ordered
        if ordered is None or ordered.run != run.number or time.monotonic() < ordered.until:
            return Order.NONE
        return ordered.order

    def fates(self, clean: bool) -> list[tuple[str, str]]:
        """Return, once it has ended, why its job is to be rescued: reason and job, '' for whichever it holds.

        A kill that came too late for its run is not put down to the job that the process had
        claimed since.
        """
        if self.killed_job:
            return [(self.killed_for, self.killed_job), ("handed_back", "")]
        return [(self.killed_for or ("handed_back" if clean else "crashed"), "")]


def fork(name: str, slot: Slot, body: Callable[[], int]) -> Child:
    """Fork a child that runs ``body`` and exits with what it returns.

    The child gets no database connection, its own random numbers, and dies with its parent: by a
    death signal on Linux, by the end of a pipe elsewhere. A signal that reaches it before it has
    left the parent's handlers behind is kept until then.
    """
    slot.clear()
    connections.close_all()
    parent = os.getpid()
    lifeline = None if _HAS_DEATH_SIGNAL else os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if lifeline is not None:
            os.close(lifeline[0])
            _lifelines[pid] = lifeline[1]
        return Child(name, pid, slot)
    status = 1
    try:
        _die_with_parent(parent, lifeline)
        _reset_after_fork()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        status = body()
    except BaseException:
        logger.exception("child %s ended by an error", name)
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


_lifelines: dict[int, int] = {}
"""The parent's ends of its children's pipes by pid, where there is no death signal."""


def buried(child: Child) -> None:
    """Let go of what the parent kept for a child that has ended."""
    end = _lifelines.pop(child.pid, None)
    if end is not None:
        os.close(end)


def _reset_after_fork() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group: the supervisor decides
    for inherited in _lifelines.values():  # a sibling's pipe must end with the parent, not with us
        os.close(inherited)
    _lifelines.clear()
    random.seed()


def _die_with_parent(parent: int, lifeline: tuple[int, int] | None) -> None:
    if lifeline is None:
        library = ctypes.CDLL(ctypes.util.find_library("c") or None, use_errno=True)
        if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    else:
        os.close(lifeline[1])
        threading.Thread(target=_watch, args=(lifeline[0],), daemon=True).start()
    if os.getppid() != parent:  # it died before the signal was set
        os._exit(1)


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)  # returns only when the parent's end is closed
    os._exit(1)
