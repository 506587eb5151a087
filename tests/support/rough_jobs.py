"""Jobs that leave things behind: open transactions, forked processes, started programs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import transaction

from wellos_jobs import current_job, fixed, job

WAITS = "import signal; signal.pause()"


# --- transactions ---------------------------------------------------------------------------------


@job("test-leave-open", backoff=fixed(0), max_attempts=1)
def leave_open(how: str, alias: str = "default", name: str = "lost") -> None:
    """Write a row in a transaction that is not ended; ``how`` says in which way."""
    if how == "autocommit":
        transaction.set_autocommit(False, using=alias)
    else:
        transaction.atomic(using=alias).__enter__()
    if how == "nested":
        transaction.atomic(using=alias).__enter__()

    Group.objects.using(alias).create(name=name)
    if how == "raises":
        raise ValueError("the job's own error")


@job("test-leave-open-async", backoff=fixed(0), max_attempts=1)
async def leave_open_async(how: str, alias: str = "default", name: str = "lost") -> None:
    await sync_to_async(leave_open)(how, alias, name)


def foreign_leave_open(how: str) -> None:
    """The same, for ``django_rq.enqueue``."""
    leave_open(how)


@job("test-add-group")
def add_group(name: str, alias: str = "default") -> None:
    Group.objects.using(alias).create(name=name)


@job("test-add-group-async")
async def add_group_async(name: str, alias: str = "default") -> None:
    await Group.objects.using(alias).acreate(name=name)


# --- context --------------------------------------------------------------------------------------


@job("test-own-batch")
def own_batch() -> str | None:
    batch = current_job().batch_id
    return None if batch is None else str(batch)


@job("test-own-batch-async")
async def own_batch_async() -> str | None:
    batch = current_job().batch_id
    return None if batch is None else str(batch)


# --- processes ------------------------------------------------------------------------------------


@job("test-fork", max_attempts=1, backoff=fixed(0))
def fork(how: str, path: str) -> str:
    """Fork; the child comes back out of the function. ``path`` gets its process id."""
    return _fork(how, path)


@job("test-fork-async", max_attempts=1, backoff=fixed(0))
async def fork_async(how: str, path: str) -> str:
    return _fork(how, path)


def foreign_fork(how: str, path: str) -> str:
    return _fork(how, path)


def _fork(how: str, path: str) -> str:
    child = os.fork()
    if child:
        Path(path).with_suffix(".part").write_text(str(child))
        Path(path).with_suffix(".part").rename(path)
        _wait_for_end(child)
        return "parent"

    if how == "raises":
        raise RuntimeError("the child's own error")
    if how == "exits":
        sys.exit(0)
    return "child"


def _wait_for_end(child: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        ended, _status = os.waitpid(child, os.WNOHANG)
        if ended:
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child has not ended")


@job("test-pool", max_attempts=1)
def use_pool() -> dict[str, Any]:
    """Use and terminate a pool of forks; return what they ignore or handle of signals."""
    forks = multiprocessing.get_context("fork")
    with forks.Pool(2) as pool:
        handlers = pool.map(handlers_of_this_process, [0] * 4)
        busy = [pool.apply_async(time.sleep, [60]) for _ in range(2)]
    pool.join()  # terminated by the block: SIGTERM ends what is busy
    assert not any(result.ready() for result in busy)
    return handlers[0]


def handlers_of_this_process(_: int) -> dict[str, Any]:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM)
    handled = [number.name for number in numbers if signal.getsignal(number) != signal.SIG_DFL]
    blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    return {"handled": handled, "blocked": blocked}


@job("test-start-program", backoff=fixed(0))
def start_program(path: str, steps: list[str], timeout: float | None = None) -> None:
    """Start a program that runs on, note its process id, then do what ``steps`` says."""
    from ..jobs import carry_out

    program = subprocess.Popen([sys.executable, "-c", WAITS])
    with Path(path).open("a") as file:
        file.write(f"{program.pid}\n")
    try:
        carry_out(steps, current_job().attempt)
    finally:
        with contextlib.suppress(OSError):
            Path(path).with_suffix(".ended").touch()
