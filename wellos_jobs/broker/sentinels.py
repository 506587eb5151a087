"""Sentinels: how long each is waited for, and in which order they are asked for the primary.

redis-py waits 5 s for each and tries it again many times: while one that is named first hangs, a
process would have no connection for a minute.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PATIENCE = 0.5
"""Seconds to wait for a Sentinel, unless ``SENTINEL_KWARGS`` says otherwise."""

_orders: dict[tuple[str, int], list[redis.Redis]] = {}
"""The Sentinels of each Redis as this process asks them: the one that answered last is first."""

_reports: list[Callable[[], None]] = []


class _ReportingRetry(Retry):
    """Reports each attempt to reach a Sentinel."""

    def call_with_retry(self, do: Callable[[], Any], *arguments: Any, **options: Any) -> Any:
        def reported() -> Any:
            for report in _reports:
                report()
            return do()

        return super().call_with_retry(reported, *arguments, **options)


def while_connecting(report: Callable[[], None]) -> None:
    """Have ``report`` called in this process whenever a Sentinel is asked, so that one who watches
    the process sees that it does not hang."""
    _reports[:] = [report]


def options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of connections to Sentinels; ``given`` ones (``SENTINEL_KWARGS``) win."""
    return {
        "socket_connect_timeout": PATIENCE,
        "socket_timeout": PATIENCE,
        "retry": _ReportingRetry(NoBackoff(), 0),
        **given,
    }


def share_order(source: str, client: redis.Redis) -> None:
    """Let the clients of a Redis ask its Sentinels in one order: one that hangs is found once."""
    manager: Any = client.connection_pool.sentinel_manager  # type: ignore[attr-defined]
    manager.sentinels = _orders.setdefault((source, os.getpid()), manager.sentinels)


def forget() -> None:
    """Forget the orders: the settings have changed."""
    _orders.clear()
