"""End a run from outside its code, by an exception that ordinary code does not catch.

The exceptions are ``BaseException``. The timer repeats, because one exception can be swallowed (in
``__del__``, by a bare ``except``), and the handler raises only while the job's own frame is on the
stack, so that a signal that comes a moment late does not hit the worker's code.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from ..errors import JobTimeout

REPEAT = 1.0
"""Seconds after which the exception is raised again while the run does not end."""


class RunTimer:
    """The time limit of the current run of a process. It works in the main thread only."""

    def __init__(self) -> None:
        self._raise: BaseException | None = None
        self._running = False

    def call(self, function: Callable[..., Any], data: Mapping[str, Any], seconds: float) -> Any:
        """Call ``function(**data)`` with a limit in seconds.

        Raises:
            JobTimeout: the limit was reached.
            JobStopped, JobHandedBack: ``interrupt`` was called meanwhile.
        """
        if threading.current_thread() is not threading.main_thread():
            return _body(function, data)

        self._raise = JobTimeout(seconds)
        signal.signal(signal.SIGALRM, self._on_alarm)
        self._running = True
        signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT)
        try:
            return _body(function, data)
        finally:
            self._running = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def interrupt(self, error: BaseException) -> bool:
        """Raise ``error`` in the current run, repeatedly until it ends. False if there is none."""
        if not self._running:
            return False
        self._raise = error
        signal.setitimer(signal.ITIMER_REAL, 0.001, REPEAT)
        return True

    def _on_alarm(self, _signal: int, frame: FrameType | None) -> None:
        if self._running and self._raise is not None and _in_body(frame):
            raise self._raise


def _body(function: Callable[..., Any], data: Mapping[str, Any]) -> Any:
    return function(**data)


def _in_body(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is _body.__code__:
            return True
        frame = frame.f_back
    return False
