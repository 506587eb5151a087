"""Unique: a second enqueue of the same job, while the first still counts, gives the first one's handle."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from .limits import Key, above_zero, check_key, resolve

Until = Literal["started", "done"]


@dataclass(frozen=True)
class Unique:
    """One job for each name and data, or for each ``key``.

    It counts for ``ttl`` seconds (None: no end), and with ``until`` no longer than until the job is
    started, or done (final). One that was cancelled does not count. ``Unique(until="started")``
    with ``Concurrency(1)`` means: once more if something changed while it ran.

    Raises:
        ValueError: neither an end in time nor ``until`` is given, or a value cannot be meant.
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
            raise ValueError("Unique: give ttl or until, else no second job could ever be enqueued")
        if self.ttl is not None:
            above_zero("Unique", "ttl", self.ttl)
        check_key("Unique", self.key)

    @property
    def seconds(self) -> float | None:
        """How long it counts, in seconds."""
        return None if self.ttl is None else above_zero("Unique", "ttl", self.ttl)

    def digest(
        self, secret: str, name: str, data: Mapping[str, Any], organization: str, plain: str
    ) -> str:
        """Return the claim's key: an HMAC, because the data may be sensitive. ``plain`` is their canonical JSON."""
        what = plain if self.key is None else resolve(self.key, name, data, organization)
        return hmac.new(secret.encode(), f"{name}\x1f{what}".encode(), hashlib.sha256).hexdigest()
