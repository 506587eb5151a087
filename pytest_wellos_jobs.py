"""The fixtures of ``wellos_jobs.testing`` for pytest, found by pytest through an entry point.

A module apart from the package: pytest imports it at its start, where no settings are chosen yet,
also in environments whose tests have nothing to do with jobs. It does nothing by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wellos_jobs import JobHandle
    from wellos_jobs.testing import CapturedJobs


@pytest.fixture
def jobs_captured(db: None) -> Iterator[CapturedJobs]:
    """The jobs that the test enqueues, with assertions; none is run. Uses the database."""
    from wellos_jobs.testing import captured_jobs

    with captured_jobs() as jobs:
        yield jobs


@pytest.fixture
def jobs_eager(db: None) -> Iterator[CapturedJobs]:
    """As ``jobs_captured``, but each job is run when it is enqueued."""
    from wellos_jobs.testing import eager

    with eager() as jobs:
        yield jobs


@pytest.fixture
def jobs_drain(jobs_captured: CapturedJobs) -> Callable[..., list[JobHandle]]:
    """``drain``: runs what the test has enqueued."""
    from wellos_jobs.testing import drain

    return drain


@pytest.fixture
def jobs_redis() -> Iterator[None]:
    """Lets the test reach Redis, which must be its own."""
    from wellos_jobs.testing import real_redis

    with real_redis():
        yield
