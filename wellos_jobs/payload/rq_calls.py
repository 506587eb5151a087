"""Reads what a plain RQ job calls from its payload, without unpickling it."""

from __future__ import annotations

import json
import zlib
from typing import Any

from .values import storable


def unzipped(data: bytes) -> bytes:
    """Return a payload without RQ's compression, if it has one.

    Ours have none, unless RQ's own code has saved the job since.
    """
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def read_call(data: bytes) -> dict[str, Any] | None:
    """Return name and data of a plain RQ job; None if its payload is not JSON."""
    try:
        path, instance, args, kwargs = json.loads(unzipped(data))
        shown = dict(kwargs or {})
        if args:
            shown["args"] = args
        name = f"{instance}.{path}" if instance else str(path)
        return {"name": storable(name), "data": storable(shown)}
    except (ValueError, TypeError, RecursionError):
        return None


def name_of(data: bytes) -> str:
    """Return what a plain RQ job calls, for display."""
    call = read_call(data)
    return call["name"] if call else "(pickled)"
