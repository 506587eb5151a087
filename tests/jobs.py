"""The jobs of the test project, found as those of any app are.

``scripted`` serves every test that needs something done to, or by, a running job: its steps say
what happens.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wellos_jobs import Discard, Retry, Snooze, current_job, fixed, job, report_progress

from .support import code_versions
from .support.journal import write

logger = logging.getLogger("wellos_jobs.tests")

WAIT_SECONDS = 60.0


class HttpError(Exception):
    """What an HTTP client raises: it has the status code and the headers of the response."""

    def __init__(self, status_code: int, headers: dict[str, str]) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code
        self.headers = headers


# --- the scripted job -----------------------------------------------------------------------------


@job("test-scripted", backoff=fixed(0.05))
def scripted(steps: Sequence[str] = (), journal: str = "") -> Any:
    """Carry out ``steps`` in order, each ``verb`` or ``verb:argument``; return what ``result``
    said.

    ``touch:PATH``           make the file
    ``wait_file:PATH``       wait until there is that file
    ``sleep:SECONDS``
    ``progress:PERCENT:TEXT``
    ``log:TEXT``             write a log line
    ``query``                run an SQL query
    ``result:TEXT``          return this text
    ``raise:CLASS:TEXT``     raise a built-in exception
    ``status:CODE[:AFTER]``  raise an HttpError, with a Retry-After header if AFTER is given
    ``retry[:SECONDS]`` ``snooze:SECONDS`` ``discard:WHY``
    ``exit[:STATUS]``        end the process without a farewell
    ``kill``                 kill the own process with -9
    ``signal:NAME``          send this signal to the own process
    ``print:TEXT``           print and flush
    ``shell:COMMAND``        run a shell command, whatever its status
    ``swallow:SECONDS``      work on for so long, catching every exception
    ``hang_c:SECONDS``       sleep with all signals blocked, as a C extension that never looks
    ``on:N:STEP``            the step, in attempt N only
    ``before:N:STEP``        the step, in attempts before N only

    ``journal`` is the path of a file in which start and end of each run are noted (see
    ``tests.support.journal``).
    """
    run = current_job(None)
    job_id, attempt = (run.id, run.attempt) if run else ("inline", 1)
    return _noted(journal, {"job": job_id, "attempt": attempt}, lambda: carry_out(steps, attempt))


def foreign_scripted(steps: Sequence[str] = (), journal: str = "") -> Any:
    """The same as a plain function, for ``django_rq.enqueue``; its attempt is always 1."""
    return _noted(journal, {"job": "foreign", "attempt": 1}, lambda: carry_out(steps, 1))


def _noted(path: str, facts: dict[str, Any], body: Callable[[], Any]) -> Any:
    if not path:
        return body()
    write(path, "started", **facts)
    try:
        result = body()
    except BaseException as error:
        write(path, "ended", error=type(error).__name__, **facts)
        raise
    write(path, "ended", **facts)
    return result


def carry_out(steps: Sequence[str], attempt: int = 1) -> Any:
    """Do what the steps of ``scripted`` say."""
    result = None
    for step in steps:
        verb, _, argument = step.partition(":")
        while verb in ("on", "before"):
            number, _, rest = argument.partition(":")
            applies = attempt == int(number) if verb == "on" else attempt < int(number)
            verb, _, argument = rest.partition(":") if applies else ("skip", "", "")
        if verb == "result":
            result = argument
        elif verb != "skip":
            _VERBS[verb](argument)
    return result


def _wait_file(path: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"{path} did not come in {WAIT_SECONDS} s")
        time.sleep(0.01)


def _progress(argument: str) -> None:
    percent, _, text = argument.partition(":")
    report_progress(int(percent), text)


def _query(_: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _raise(argument: str) -> None:
    name, _, text = argument.partition(":")
    raise getattr(builtins, name)(text)


def _status(argument: str) -> None:
    code, _, after = argument.partition(":")
    raise HttpError(int(code), {"Retry-After": after} if after else {})


def _retry(argument: str) -> None:
    raise Retry(float(argument) if argument else None)


def _snooze(argument: str) -> None:
    raise Snooze(float(argument))


def _discard(argument: str) -> None:
    raise Discard(argument)


def _exit(argument: str) -> None:
    sys.stdout.flush()
    os._exit(int(argument or 3))


def _kill(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(WAIT_SECONDS)  # the signal may take a moment


def _signal(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[name])


def _print(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)


def _shell(command: str) -> None:
    subprocess.run(command, shell=True, check=False)


def _swallow(argument: str) -> None:
    deadline = time.monotonic() + float(argument or WAIT_SECONDS)
    while time.monotonic() < deadline:
        try:
            while time.monotonic() < deadline:
                time.sleep(0.01)
        except BaseException:  # noqa: S110 - what this job is for
            pass


def _hang_c(argument: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(float(argument or WAIT_SECONDS))


_VERBS: dict[str, Callable[[str], None]] = {
    "touch": lambda path: Path(path).touch(),
    "wait_file": _wait_file,
    "sleep": lambda seconds: time.sleep(float(seconds)),
    "progress": _progress,
    "log": lambda text: logger.info("%s", text),
    "query": _query,
    "raise": _raise,
    "status": _status,
    "retry": _retry,
    "snooze": _snooze,
    "discard": _discard,
    "exit": _exit,
    "kill": _kill,
    "signal": _signal,
    "print": _print,
    "shell": _shell,
    "swallow": _swallow,
    "hang_c": _hang_c,
}


# --- small ones -----------------------------------------------------------------------------------


@job("test-noop")
def noop() -> None:
    """Do nothing."""


@job("test-add", queue="reports")
def add(a: int, b: int = 1) -> int:
    return a + b


@job("test-echo")
def echo(value: Any) -> Any:
    return value


@job("test-async")
async def wait_and_double(number: int) -> int:
    await asyncio.sleep(0.001)
    return number * 2


@job("test-secret", sensitive=("token",), max_attempts=1)
def secret(token: str, fail: bool = False) -> int:
    """Use a secret; failing, put it where careless code does: in the log, the message and the
    traceback."""
    logger.info("using %s", token)
    if fail:
        raise RuntimeError(f"the service refused {token}")
    return len(token)


@job("test-fail", max_attempts=1)
def fail(message: str = "broken") -> None:
    raise ValueError(message)


# --- foreign code: plain functions for django_rq.enqueue ------------------------------------------


def foreign_add(a: int, b: int = 1) -> int:
    return a + b


def foreign_fail(message: str = "broken") -> None:
    raise ValueError(message)


from .support import contrib_jobs, guarded_jobs, rough_jobs  # noqa: E402, F401  # jobs too, in modules of their own

# --- two versions of the code (see ``support.code_versions``) -------------------------------------

if code := os.environ.get("WELLOS_TEST_CODE"):
    code_versions.declare(code)
