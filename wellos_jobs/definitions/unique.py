"""Unique jobs: while the first is in force, enqueueing it again returns the first one's handle."""

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

    A job is in force for ``ttl`` seconds (None: without limit), and with ``until`` at the latest
    until it has started, or is done (final). A cancelled job is no longer in force.
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
        """Return the key of the claim: an HMAC, because the data may be sensitive.

        ``plain`` is the data as canonical JSON.
        """
        identity = plain if self.key is None else resolve(self.key, name, data, organization)
        message = f"{name}\x1f{identity}".encode()
        return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
