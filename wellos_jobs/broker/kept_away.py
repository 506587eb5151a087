"""Tests keep away from Redis: its workers would run what a test enqueues, or find no row of it.

While Django's test environment is set up, as ``manage.py test`` and pytest-django do, no client of
this app connects, as if Redis were down. ``REDIS_IN_TESTS`` and ``real_redis`` allow it: for tests
that have a Redis of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .. import conf

REASON = (
    "tests do not reach Redis: wellos_jobs.testing runs jobs without it; for tests with a Redis of "
    'their own set WELLOS_JOBS["REDIS_IN_TESTS"] = True'
)


class KeptAway(redis.ConnectionError):
    """A test has tried to reach Redis."""


class _Blocks:
    """How many blocks are open that allow Redis, and that forbid it."""

    allowing = 0
    forbidding = 0


def is_kept_away() -> bool:
    """Return whether Redis is not to be reached now."""
    if _Blocks.forbidding:
        return True
    return is_test_run() and not is_allowed()


def is_allowed() -> bool:
    """Return whether tests may reach Redis."""
    return bool(_Blocks.allowing) or conf.redis_in_tests()


def is_test_run() -> bool:
    """Return whether Django's test environment is set up in this process."""
    module = sys.modules.get("django.test.utils")
    return module is not None and hasattr(module._TestState, "saved_data")


@contextmanager
def real_redis() -> Iterator[None]:
    """Let the tests in the block reach Redis, which must be their own: jobs are pushed there, also
    those of a transaction that never commits."""
    _Blocks.allowing += 1
    try:
        yield
    finally:
        _Blocks.allowing -= 1


@contextmanager
def no_redis() -> Iterator[None]:
    """Keep everything in the block away from Redis."""
    _Blocks.forbidding += 1
    try:
        yield
    finally:
        _Blocks.forbidding -= 1


@cache
def client() -> redis.Redis:
    """Return a client that refuses to connect."""
    pool = redis.ConnectionPool(connection_class=_Refusing, retry=Retry(NoBackoff(), 0))
    return redis.Redis(connection_pool=pool)


class _Refusing(redis.Connection):
    """A connection that is never made."""

    def connect(self, *_arguments: Any, **_options: Any) -> None:
        raise KeptAway(REASON)
