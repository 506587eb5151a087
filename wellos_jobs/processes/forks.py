"""Processes that a job forks: they get default signal handlers, and never act as the worker."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from types import TracebackType
from typing import NoReturn

from .stop_signals import STOP_SIGNALS

logger = logging.getLogger("wellos_jobs")

_HANDLED = (*STOP_SIGNALS, signal.SIGUSR1, signal.SIGALRM)
"""The signals that a worker handles, and the processes that its jobs fork must not."""

_fork = threading.local()
"""``mask``: this thread's signal mask from before the fork that is under way."""
_worker_pid = 0


def reset_handlers_in_forks() -> None:
    """From now on, what this process forks has the default handlers of signals.

    With a worker's handler for SIGTERM a fork would outlive ``Process.terminate`` and
    ``multiprocessing.Pool``, which wait for its end.
    """
    global _worker_pid
    if not _worker_pid:
        os.register_at_fork(
            before=_block_signals,
            after_in_parent=_unblock_signals,
            after_in_child=_reset_handlers,
        )
    _worker_pid = os.getpid()


def _block_signals() -> None:
    # A signal that reaches the child before its handlers are reset would be lost.
    if os.getpid() == _worker_pid:
        _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


def _unblock_signals() -> None:
    mask = _fork.__dict__.pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _reset_handlers() -> None:
    if "mask" not in _fork.__dict__:
        return
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _unblock_signals()


class ForkGuard:
    """Ends a forked process that comes out of the block; only the one that made the guard goes on.

    Such a child would settle the job in the worker's name and go on claiming jobs, unsupervised.
    """

    __slots__ = ("_job_id", "_pid")

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._pid = os.getpid()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self._pid:
            _end_fork(self._job_id, error)


def _end_fork(job_id: str, error: BaseException | None) -> NoReturn:
    """End this process without a farewell to the connections that it shares with its parent."""
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    try:
        if error is not None and not isinstance(error, SystemExit):
            traceback.print_exception(error)
        logger.warning(
            "job=%s forked process %d, which has come back out of the job's function: it ends here",
            job_id,
            os.getpid(),
        )
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)
