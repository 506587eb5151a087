"""Job ids: UUIDs of version 7 (RFC 9562), so that ids sort by the time they were made.

Ids that can be computed again (of a plain RQ job, or from an id given as text) are UUIDs of
version 8, made from a SHA-256 digest.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MILLISECOND = 253_402_300_800_000
"""The end of Python's calendar, after the year 9999."""

SPANS = (
    ("00000000-0000-7000-8000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff"),
    ("00000000-0000-8000-a000-000000000000", "ffffffff-ffff-8fff-bfff-ffffffffffff"),
)
"""The first and last possible id: of version 7, and of derived ids."""

_VARIANT = 0x8000000000000000
_STORABLE = 0x2000000000000000
"""A bit set in derived ids: without it, MariaDB's uuid type refuses one in 64 of version 8."""


def new_id() -> uuid.UUID:
    """Return a fresh id: 48 bits of Unix time in milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return _assemble(milliseconds, int.from_bytes(os.urandom(10), "big"), version=7)


def derived_id(*parts: str) -> uuid.UUID:
    """Return the id made from ``parts``: the same parts give the same id on every machine."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    randomness = int.from_bytes(digest[6:16], "big") | _STORABLE
    return _assemble(int.from_bytes(digest[:6], "big"), randomness, version=8)


def tick_id(schedule: str, due: datetime) -> uuid.UUID:
    """Return the id of a schedule's job for a due time: the same in every scheduler.

    It has the shape of version 7: 48 bits of the due time in milliseconds, the rest from
    SHA-256(schedule, due).
    """
    microseconds = round(due.timestamp() * 1_000_000)
    digest = hashlib.sha256(f"{schedule}\x1f{microseconds}".encode()).digest()
    return _assemble(microseconds // 1000, int.from_bytes(digest[:10], "big"), version=7)


def moment_of(chosen: uuid.UUID) -> datetime | None:
    """Return the time in an id: when the job was enqueued, or when its schedule was due.

    To the millisecond; retries do not change it. None for an id without a time.
    """
    if chosen.version != 7:
        return None
    milliseconds = chosen.int >> 80
    return EPOCH + timedelta(milliseconds=milliseconds) if milliseconds < LAST_MILLISECOND else None


def parse_id(text: object) -> uuid.UUID | None:
    """Return the id in a text, or None if it is not a UUID."""
    if isinstance(text, uuid.UUID):
        return text
    try:
        return uuid.UUID(str(text))
    except ValueError:
        return None


def job_id(value: uuid.UUID | str) -> uuid.UUID:
    """Return the job id for an id chosen by the caller: a UUID as it is, a derived id for text.

    Raises:
        ValueError: the text is empty.
    """
    if isinstance(value, str) and not value.strip():
        raise ValueError("id is empty: give a UUID or a text, or leave it out to get a new one")
    return parse_id(value) or derived_id("id", str(value))


def _assemble(milliseconds: int, randomness: int, *, version: int) -> uuid.UUID:
    high = (milliseconds << 16) | (version << 12) | (randomness >> 62 & 0xFFF)
    low = _VARIANT | (randomness & 0x3FFFFFFFFFFFFFFF)
    return uuid.UUID(int=(high << 64) | low)
