"""What ends a worker and what goes with it; what does not end it: closed streams, new files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wellos_jobs
from wellos_jobs.models import JobAttempt

from ..jobs import noop, scripted
from ..support.journal import Journal
from ..support.processes import Fleet, Process, is_alive, wait_until
from ..support.rough_jobs import start_program
from ..support.rows import attempts, has_state, row

pytestmark = pytest.mark.any_database

STOPS = [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


# --- a signal to a worker, by somebody else -------------------------------------------------------


@pytest.mark.parametrize("number", STOPS)
def test_a_worker_that_somebody_stops_ends_warm_and_has_a_successor(
    processes: Fleet, journal: Journal, tmp_path: Path, number: signal.Signals
) -> None:
    """earlyoom, or a person."""
    worker = processes.worker("--processes", "2")
    gate = tmp_path / "gate"
    handle = scripted.enqueue(steps=[f"wait_file:{gate}"], journal=str(journal))
    busy = journal.wait_for_starts()[0].pid
    [idle] = [pid for pid in worker_pids(worker, 2) if pid != busy]

    os.kill(idle, number)
    os.kill(busy, number)
    processes.wait_until(lambda: idle not in worker.children(), what="the idle worker to end")
    gate.touch()
    processes.wait_until(lambda: has_state(handle, "completed"))
    assert attempts(handle) == []

    assert not {idle, busy} & set(worker_pids(worker, 2))
    scripted.enqueue(journal=str(journal))
    assert journal.wait_for_starts(2)[1].pid not in (idle, busy)
    assert worker.is_running()


def test_a_job_that_stops_its_own_worker_has_a_successor(
    processes: Fleet, journal: Journal
) -> None:
    worker = processes.worker()
    handles = [
        scripted.enqueue(steps=["signal:SIGTERM", "result:done"], journal=str(journal))
        for _ in range(3)
    ]
    for handle in handles:
        processes.wait_until(lambda handle=handle: has_state(handle, "completed"))  # type: ignore[misc]
        assert (row(handle).result, attempts(handle)) == ("done", [])
    assert len({entry.pid for entry in journal.starts()}) == 3
    assert worker.is_running()


def worker_pids(process: Process, count: int) -> list[int]:
    """Wait until so many workers are there; return the process ids of those alive."""

    def look() -> list[int]:
        lines = process.output().splitlines()
        started = [line for line in lines if " worker " in line and " started, pid " in line]
        pids = [int(line.rpartition(" ")[2]) for line in started]
        alive = [pid for pid in pids if is_alive(pid)]
        return alive if len(alive) == count else []

    return wait_until(look, what=f"{count} workers", processes=[process])


# --- signals to the supervisor --------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_sighup_and_sigquit_stop_as_sigterm_does(
    processes: Fleet, journal: Journal, tmp_path: Path, number: signal.Signals
) -> None:
    """A terminal that is closed, a service manager."""
    gate = tmp_path / "gate"
    worker = processes.worker()
    handle = scripted.enqueue(steps=[f"wait_file:{gate}"], journal=str(journal))
    journal.wait_for_starts()
    worker.signal(number)
    later = noop.enqueue()
    gate.touch()
    assert worker.wait() == 0
    assert has_state(handle, "completed")
    assert later.state == "waiting"
    assert not JobAttempt.objects.exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_the_scheduler_obeys_them_too(processes: Fleet, number: signal.Signals) -> None:
    scheduler = processes.manage("rqscheduler")
    scheduler.wait_for_output("clock started")
    scheduler.signal(number)
    assert scheduler.wait() == 0


def test_under_nohup_a_hangup_is_ignored(processes: Fleet) -> None:
    worker = processes.start(
        "-c",
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "os.execv(sys.executable, [sys.executable, 'manage.py', 'rqworker'])",
    )
    [pid] = worker_pids(worker, 1)
    worker.signal(signal.SIGHUP)
    os.kill(pid, signal.SIGHUP)
    handle = noop.enqueue()
    processes.wait_until(lambda: has_state(handle, "completed"))
    assert worker.is_running()
    assert is_alive(pid)


TERMINAL = """
import os, pty, select, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.executable, [sys.executable, "manage.py", "rqworker", "--processes", "2"])
pressed = False
while True:
    if not pressed and os.path.exists(sys.argv[1]):
        os.write(terminal, b"\\x03")
        pressed = True
    if select.select([terminal], [], [], 0.05)[0]:
        try:
            text = os.read(terminal, 4096)
        except OSError:
            break
        if not text:
            break
        os.write(1, text)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_ctrl_c_in_a_terminal_is_a_warm_stop(
    processes: Fleet, journal: Journal, tmp_path: Path
) -> None:
    """The workers have left the terminal's process group: the supervisor tells them."""
    gate, pressed = tmp_path / "gate", tmp_path / "pressed"
    terminal = processes.start("-c", TERMINAL, str(pressed))
    handle = scripted.enqueue(steps=[f"wait_file:{gate}"], journal=str(journal))
    busy = journal.wait_for_starts()[0].pid
    pressed.touch()
    terminal.wait_for_output("^C")
    processes.wait_until(lambda: worker_pids(terminal, 1) == [busy], what="the idle worker to end")
    gate.touch()
    assert terminal.wait() == 0
    assert has_state(handle, "completed")
    assert attempts(handle) == []


# --- what a run had started -----------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Path]:
    """The file in which jobs note the programs that they have started."""
    path = tmp_path / "programs"
    path.touch()
    yield path
    for pid in started(path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def started(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


NEVER = "wait_file:/never/comes"


@pytest.mark.parametrize(
    ("step", "timeout", "outcome"),
    [
        ("on:1:kill", None, "crashed"),
        ("on:1:exit:3", None, "crashed"),
        (f"on:1:{NEVER}", 0.5, "timeout"),
        ("on:1:hang_c:60", 0.5, "timeout"),
    ],
    ids=["killed", "exits", "timeout", "does-not-end-at-its-timeout"],
)
def test_what_a_lost_run_had_started_is_killed(
    processes: Fleet, programs: Path, step: str, timeout: float | None, outcome: str
) -> None:
    processes.start("-m", "tests.support.run_supervisor", "timeout_grace=0.5")
    job = start_program.using(timeout=timeout) if timeout else start_program
    handle = job.enqueue(path=str(programs), steps=[step])
    processes.wait_until(lambda: has_state(handle, "completed"))
    assert attempts(handle) == [(1, outcome)]

    first, second = started(programs)
    processes.wait_until(lambda: not is_alive(first), 2, "the first program to be killed")
    assert is_alive(second), "what a run starts and leaves may run on"


def test_what_a_canceled_run_had_started_is_killed(processes: Fleet, programs: Path) -> None:
    worker = processes.worker()
    handle = start_program.enqueue(path=str(programs), steps=[NEVER])
    [program] = processes.wait_until(lambda: started(programs))
    handle.cancel()
    processes.wait_until(lambda: has_state(handle, "canceled"))
    processes.wait_until(lambda: not is_alive(program), what="the program to be killed")
    assert worker.is_running()


def test_what_a_run_that_is_handed_back_had_started_is_killed(
    processes: Fleet, programs: Path
) -> None:
    worker = processes.worker("--shutdown-timeout", "0.2")
    handle = start_program.enqueue(path=str(programs), steps=[NEVER])
    [program] = processes.wait_until(lambda: started(programs))
    worker.terminate()
    assert worker.wait() == 0
    assert (row(handle).state, row(handle).attempts) == ("waiting", 0)
    assert not is_alive(program)


# --- closed streams -------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-", "| true"])
def test_a_closed_stream_changes_nothing(processes: Fleet, tmp_path: Path, closed: str) -> None:
    """``--max-jobs`` depends on the exit status of a worker."""
    steps = ["print:into a closed stream", "shell:echo a program speaks; echo twice >&2"]
    handles = scripted.enqueue_bulk([{"steps": steps}] * 4)
    status = tmp_path / "status"
    line = f"{{ {sys.executable} manage.py rqworker --max-jobs 2; echo $? >{status}; }} {closed}"
    shell = processes.start("-c", f"import os; os.execv('/bin/sh', ['sh', '-c', {line!r}])")
    shell.wait()
    assert status.read_text().strip() == "0"
    assert sum(handle.state == "completed" for handle in handles) == 2


# --- a deployment in place ------------------------------------------------------------------------


def test_a_running_supervisor_needs_no_file_of_its_scripts(
    processes: Fleet, tmp_path: Path, journal: Journal
) -> None:
    """After an in-place deployment the files are others, or gone: they would not fit its code."""
    copy = tmp_path / "code"
    shutil.copytree(Path(wellos_jobs.__file__).parent, copy / "wellos_jobs")
    worker = processes.start(
        "-c",
        f"import sys; sys.path.insert(0, {str(copy)!r})\n"
        "import django; django.setup()\n"
        "import wellos_jobs; print(wellos_jobs.__file__, flush=True)\n"
        "from django.core.management import call_command; call_command('rqworker')",
        fresh=True,
    )
    worker.wait_for_output(str(copy))
    worker_pids(worker, 1)
    shutil.rmtree(copy / "wellos_jobs" / "broker" / "scripts")

    crash = scripted.enqueue(steps=["on:1:kill"], journal=str(journal))
    retried = scripted.enqueue(steps=["on:1:raise:OSError:again", "progress:50:half"])
    gone = scripted.using(delay=600).enqueue()
    gone.cancel()
    for handle in (crash, retried):
        processes.wait_until(lambda handle=handle: has_state(handle, "completed"))  # type: ignore[misc]
    worker.terminate()
    assert worker.wait() == 0
    assert has_state(gone, "canceled")
