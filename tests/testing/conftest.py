"""The test run as a user has it: with a Redis that belongs to somebody else."""

from __future__ import annotations

import pytest

from pytest_wellos_jobs import (  # noqa: F401  # fixtures, if the entry point is not installed
    jobs_captured,
    jobs_drain,
    jobs_eager,
    jobs_redis,
)
from wellos_jobs.broker import kept_away


@pytest.fixture
def somebodys_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what the tests of this project are allowed: Redis is kept away, as for a user."""
    monkeypatch.setattr(kept_away._Blocks, "allowing", 0)
