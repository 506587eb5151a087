"""The commits that a ``TestCase`` never makes: its transaction is rolled back in the end.

What a job's transaction has registered for its commit is called where the code under test has left
its own transactions. Savepoints that were rolled back have dropped theirs: Django sees to that.
Callbacks of the project are left to ``captureOnCommitCallbacks``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections
from django.test.testcases import (  # type: ignore[attr-defined]  # missing in the stubs
    DatabaseOperationForbidden,
)

from ..database import AfterCommit, job_databases
from ..models import JobRecord


def databases_of_test() -> list[str]:
    """Return the aliases that hold jobs and that the test may use: none in a ``SimpleTestCase``."""
    return [alias for alias in job_databases() if _may_use(alias)]


def flush(databases: Iterable[str]) -> None:
    """Make the calls that are due after the commits that the test has left out."""
    for alias in databases:
        connection = connections[alias]
        while due := _due(connection):
            for call in due:
                call()


@contextmanager
def committing_at_once(databases: Iterable[str]) -> Iterator[None]:
    """Flush whenever code under test leaves its outermost transaction, or needs none."""
    with ExitStack() as stack:
        for alias in databases:
            stack.enter_context(_watched(connections[alias]))
        yield


def _may_use(alias: str) -> bool:
    try:
        JobRecord.objects.using(alias).exists()
    except DatabaseOperationForbidden:
        return False
    return True


def _due(connection: Any) -> list[AfterCommit]:
    if not _is_outermost_of_test(connection):
        return []
    calls = [call for _, call, _ in connection.run_on_commit]
    return [call for call in calls if isinstance(call, AfterCommit) and not call.done]


def _is_outermost_of_test(connection: Any) -> bool:
    """Return whether only the transactions of a ``TestCase`` are open: those it rolls back."""
    blocks: list[Any] = connection.atomic_blocks
    return bool(blocks) and all(block._from_testcase for block in blocks)


@contextmanager
def _watched(connection: Any) -> Iterator[None]:
    before = {name: vars(connection).get(name) for name in ("on_commit", "savepoint_commit")}
    on_commit, savepoint_commit = connection.on_commit, connection.savepoint_commit

    def register(function: Callable[[], Any], robust: bool = False) -> None:
        # The errors of jobs are for the test, not for the log.
        on_commit(function, robust=robust and not isinstance(function, AfterCommit))
        flush([connection.alias])

    def release(sid: str) -> None:
        savepoint_commit(sid)
        flush([connection.alias])

    connection.on_commit, connection.savepoint_commit = register, release
    try:
        yield
    finally:
        for name, replaced in before.items():
            delattr(connection, name)
            if replaced is not None:  # by a block around this one
                setattr(connection, name, replaced)
