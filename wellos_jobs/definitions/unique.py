"""Unique jobs: while one holds the key, enqueueing another returns the handle of the first."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from .durations import positive_seconds
from .limits import Key, check_key, resolve

Until = Literal["started", "done"]


@dataclass(frozen=True)
class Unique:
    """One job for each name and data, or for each ``key``.

    It holds the key until ``ttl`` is over (seconds; None: no limit) or ``until`` is reached (it has
    started, or is final), whichever is first. A canceled job no longer holds it.
    ``Unique(until="started")`` with ``Concurrency(1)`` means: run once more if something changed
    during the run.

    Raises:
        ValueError: neither ``ttl`` nor ``until`` is given, or a value is invalid.
    """

    ttl: float | timedelta | None = 3600
    until: Until | None = None
    key: Key = None

    def __post_init__(self) -> None:
        if self.until not in (None, "started", "done"):
            raise ValueError(
                f"Unique: until is {self.until!r}: it must be 'started', 'done' or None"
            )
        if self.ttl is None and self.until is None:
            raise ValueError(
                "Unique: ttl and until are both None, so no second job could ever be enqueued: "
                "give ttl or until"
            )
        if self.ttl is not None:
            positive_seconds("Unique", "ttl", self.ttl)
        check_key("Unique", self.key)

    @property
    def seconds(self) -> float | None:
        """``ttl`` in seconds."""
        return None if self.ttl is None else positive_seconds("Unique", "ttl", self.ttl)

    def digest(
        self, secret: str, name: str, data: Mapping[str, Any], organization: str, plain: str
    ) -> str:
        """Return the key: an HMAC, because the data may be sensitive.

        ``plain`` is the data as canonical JSON.
        """
        identity = plain if self.key is None else resolve(self.key, name, data, organization)
        message = f"{name}\x1f{identity}".encode()
        return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
