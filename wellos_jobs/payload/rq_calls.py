"""Reads what a plain RQ job calls from its payload, without unpickling it."""

from __future__ import annotations

import json
import zlib
from typing import Any

from .values import storable

MAX_UNZIPPED = 16 * 1024 * 1024
"""Bytes that a compressed payload may have once it is unpacked."""

MAX_SHOWN = 1024 * 1024
"""Bytes of a plain RQ job's payload up to which its arguments are stored in the row."""


MAX_ID = 180
"""Bytes of a plain RQ job's id that its row can hold."""


def check_id(job_id: str) -> None:
    """Raises ValueError if the id of a plain RQ job is too long for its row."""
    size = len(job_id.encode())
    if size > MAX_ID:
        raise ValueError(
            f"The job id {job_id[:40]!r}… has {size} bytes: jobs on these queues have at most "
            f"{MAX_ID}"
        )


class PayloadTooLarge(ValueError):
    """A compressed payload unpacks to more than ``MAX_UNZIPPED``."""


def unzipped(data: bytes) -> bytes:
    """Return a payload without RQ's compression, if it has one.

    Ours have none, unless RQ's own code has saved the job since. Never unpacks more than
    ``MAX_UNZIPPED``: 1 MB of zeros may stand for 1 GB.

    Raises:
        PayloadTooLarge: there is more.
    """
    decompressor = zlib.decompressobj()
    try:
        plain = decompressor.decompress(data, MAX_UNZIPPED)
        more = decompressor.unconsumed_tail and decompressor.decompress(
            decompressor.unconsumed_tail, 1
        )
    except zlib.error:
        return data

    if more:
        raise PayloadTooLarge(
            f"The payload has {len(data):,} bytes and unpacks to more than {MAX_UNZIPPED:,}: "
            "pass an id instead"
        )
    return plain if decompressor.eof else data


def read_call(data: bytes) -> dict[str, Any] | None:
    """Return name and data of a plain RQ job; None if its payload is not JSON or too large.

    The arguments of a payload above ``MAX_SHOWN`` are replaced by its size.
    """
    try:
        plain = unzipped(data)
        path, instance, args, kwargs = json.loads(plain)
        shown = dict(kwargs or {})
        if args:
            shown["args"] = args
        if len(plain) > MAX_SHOWN:
            shown = {"…": f"{len(plain):,} bytes, not stored in this row"}
        name = f"{instance}.{path}" if instance else str(path)
        return {"name": storable(name), "data": storable(shown)}
    except (ValueError, TypeError, RecursionError):
        return None


def name_of(data: bytes) -> str:
    """Return what a plain RQ job calls, for display."""
    call = read_call(data)
    return call["name"] if call else "(pickled)"
