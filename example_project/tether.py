"""Run a program that ends with its parent process, even if the parent is killed with -9.

    python tether.py PARENT_PID SIGNAL program [argument ...]

On Linux this process requests SIGNAL for the death of its parent, then executes the program. On
other systems it watches its parent and forwards signals.

It imports nothing from the project, so that it starts within milliseconds. Start it from the main
thread, because Linux sends the signal when the *thread* that started the program ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
WATCH_SECONDS = 0.2


def command(program: Sequence[str], death_signal: signal.Signals = signal.SIGTERM) -> list[str]:
    """Return the command line that runs ``program`` tethered to the calling process."""
    return [
        sys.executable,
        "-I",
        "-S",
        __file__,
        str(os.getpid()),
        str(int(death_signal)),
        *program,
    ]


def main(arguments: Sequence[str]) -> int:
    parent, death_signal, program = int(arguments[0]), int(arguments[1]), list(arguments[2:])
    if sys.platform == "linux":
        ask_for_signal_at_parents_death(death_signal)
        if os.getppid() != parent:  # it died before the kernel was asked
            return 1
        os.execvp(program[0], program)
    return watch(parent, death_signal, program)


def ask_for_signal_at_parents_death(number: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def watch(parent: int, death_signal: int, program: Sequence[str]) -> int:
    """Run the program as a child until it ends or our parent does; return its exit status."""
    child = subprocess.Popen(program)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    while child.poll() is None:
        if os.getppid() != parent:
            child.send_signal(death_signal)
            child.wait()
            break
        time.sleep(WATCH_SECONDS)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
