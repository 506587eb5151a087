"""The signals that ask a long-running process to stop: all are obeyed in the same way."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def on_stop(handler: Callable[[int, FrameType | None], Any]) -> dict[signal.Signals, Any]:
    """Install a handler for the stop signals; return the ones before, for ``restore``.

    SIGHUP stays ignored under ``nohup``, SIGINT in the children of a supervisor, which decides.
    Signals that were blocked until now are let in.
    """
    before = {}
    for number in STOP_SIGNALS:
        if number is signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP_SIGNALS, signal.SIGUSR1, signal.SIGCHLD))
    return before


def restore(before: dict[signal.Signals, Any]) -> None:
    """Install the handlers from before ``on_stop``."""
    for number, handler in before.items():
        signal.signal(number, handler)
