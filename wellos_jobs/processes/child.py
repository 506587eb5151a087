"""Forked child processes of a supervisor: they start with a clean state and never outlive it."""

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

from .shared_memory import Order, Run, Slot
from .stop_signals import STOP_SIGNALS

logger = logging.getLogger("wellos_jobs")

_PR_SET_PDEATHSIG = 1
_HAS_DEATH_SIGNAL = sys.platform == "linux"
_HANDLED = (*STOP_SIGNALS, signal.SIGUSR1, signal.SIGCHLD)
"""The signals that the supervisor handles and its children handle differently."""


def memory_of(pid: int) -> int | None:
    """Return the resident memory of a process in bytes; None where it is not available."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order given to a run, and the time by which it must be obeyed."""

    run: int
    order: Order
    until: float


@dataclass(slots=True)
class Child:
    """A process started by the supervisor."""

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
        """Send a signal. A child that has already ended is found by ``waitpid``."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal_number)

    def kill(self, why: str, run: Run | None = None) -> None:
        """Send SIGKILL, also to what its job has started; remember the reason and the run."""
        if not self.killed_for:
            self.killed_for, self.killed_job = why, run.job_id if run else ""
        self.send(signal.SIGKILL)
        self.kill_group()

    def kill_group(self) -> None:
        """Kill what its job has started and what still runs, unless it has left the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def memory(self) -> int | None:
        """Return its resident memory in bytes; None where the system does not provide it."""
        return memory_of(self.pid)

    def order(self, order: Order, run: Run, seconds: float) -> None:
        """Give an order to a run, once. After ``seconds`` it is ``overdue``."""
        if self.ordered is not None and self.ordered.run == run.number:
            return
        self.slot.give(order, run)
        self.ordered = Ordered(run.number, order, time.monotonic() + seconds)
        self.send(signal.SIGUSR1)

    def overdue(self, run: Run) -> Order:
        """Return the order that this run should have obeyed by now, else Order.NONE."""
        ordered = self.ordered
        if ordered is None or ordered.run != run.number or time.monotonic() < ordered.until:
            return Order.NONE
        return ordered.order

    def rescues(self, clean: bool) -> list[tuple[str, str]]:
        """Return (reason, job id) pairs for the rescue of this dead worker's jobs.

        The id is '' for whichever job it holds. A kill that came too late for its run is not
        blamed on the job that the process has claimed since.
        """
        if self.killed_job:
            return [(self.killed_for, self.killed_job), ("handed_back", "")]
        return [(self.killed_for or ("handed_back" if clean else "crashed"), "")]


def fork(name: str, slot: Slot, body: Callable[[], int], *, calls_on_stop: bool = False) -> Child:
    """Fork a child that runs ``body`` and exits with what it returns.

    The child inherits no database connection, has its own random numbers, and dies with its parent:
    by a death signal on Linux, by the end of a pipe elsewhere. Signals are blocked until the child
    has replaced the parent's handlers. It leads a session and a process group of its own: what it
    starts can be killed with it, and Ctrl-C in a terminal reaches only the parent, which decides.

    ``calls_on_stop``: signals stay blocked until ``body`` calls ``on_stop``, so that none ends it
    unprepared.
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
        os.setsid()
        _die_with_parent(parent, lifeline)
        _reset_after_fork()
        if not calls_on_stop:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        status = body()
    except BaseException:
        logger.exception("child %s ended with an error", name)
    finally:
        _flush_output()
        os._exit(status)


def _flush_output() -> None:
    """Flush what was logged and printed. Closed streams must not change the exit status."""
    with contextlib.suppress(Exception):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()


_lifelines: dict[int, int] = {}
"""The parent's ends of its children's pipes by pid, where there is no death signal."""


def close_lifeline(child: Child) -> None:
    """Close the parent's end of the pipe of a child that has ended."""
    end = _lifelines.pop(child.pid, None)
    if end is not None:
        os.close(end)


def _reset_after_fork() -> None:
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides

    # The pipe of a sibling must end with the parent, not with this process.
    for inherited in _lifelines.values():
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
