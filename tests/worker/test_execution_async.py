"""Async jobs use the database connections of another thread than the worker's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from wellos_jobs import job
from wellos_jobs.definitions import registry
from wellos_jobs.models import JobRecord

from ..support.engine import Hand

pytestmark = pytest.mark.django_db(transaction=True)


def elsewhere(function: Any) -> Any:
    """Call a function in the thread in which Django's ORM works for async code."""
    return asyncio.run(sync_to_async(function)())


def break_connection() -> None:
    """End this thread's connection without Django's knowledge, as a server that is restarted
    does."""
    ends = {
        "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
        "mysql": "KILL CONNECTION_ID()",
    }
    if connection.vendor == "sqlite":
        connection.connection.close()
        return
    with pytest.raises(connection.Database.Error):
        connection.connection.cursor().execute(ends[connection.vendor])


async def count() -> int:
    return await JobRecord.objects.acount()


@pytest.fixture
def run() -> Any:
    with registry.isolated():
        counted = job("test-count")(count)

        def once() -> Any:
            counted.enqueue()
            return Hand("default").run()

        yield once
    elsewhere(lambda: connection.close())


def test_the_connection_is_closed_after_the_run_when_it_is_too_old(run: Any) -> None:
    assert run().kind == "completed"
    assert elsewhere(lambda: connection.connection) is None


def test_a_connection_that_broke_between_two_runs_is_reopened(run: Any) -> None:
    """As after a restart of the database: else all later async jobs of this worker would fail."""
    elsewhere(lambda: connection.ensure_connection())
    elsewhere(break_connection)
    outcome = run()
    assert outcome.kind == "completed", outcome.message
