"""Children of a supervisor: signals reach them from the start."""

from __future__ import annotations

import subprocess
import sys

FORKS = 50
FORK_AND_END = f"""
import os, signal, time
from wellos_jobs.processes.child import fork
from wellos_jobs.processes.shared_memory import Slot

signal.signal(signal.SIGTERM, lambda *_: None)  # as in a supervisor
swallowed = 0
for _ in range({FORKS}):
    child = fork("child", Slot(), lambda: signal.pause() or 0)
    child.send(signal.SIGTERM)  # before it has begun, most times
    deadline = time.monotonic() + 2
    while not (ended := os.waitpid(child.pid, os.WNOHANG)[0]) and time.monotonic() < deadline:
        time.sleep(0.001)
    if not ended:
        swallowed += 1
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        break
print(swallowed)
"""


def test_a_child_that_is_stopped_before_it_has_started_ends() -> None:
    """Until it has replaced the parent's handlers, they would swallow the signal."""
    command = [sys.executable, "-c", FORK_AND_END]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.strip() == "0"


FORK_AND_PREPARE = """
import os, signal
from wellos_jobs.processes.child import fork
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.processes.stop_signals import on_stop

begin, go_on = os.pipe()

def body():
    os.read(begin, 1)  # the signal has been sent by now
    stopped = []
    on_stop(lambda *_: stopped.append(True))
    return 7 if stopped else 1

child = fork("child", Slot(), body, calls_on_stop=True)
child.send(signal.SIGTERM)
os.write(go_on, b".")
print(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]))
"""


def test_a_child_that_is_stopped_before_it_is_prepared_stops_as_it_should() -> None:
    """The housekeeping applies the last events also if it is told to stop as soon as it starts."""
    command = [sys.executable, "-c", FORK_AND_PREPARE]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.strip() == "7"
