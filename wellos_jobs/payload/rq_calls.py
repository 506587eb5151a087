"""What a job of foreign code calls, read from its payload without ever unpickling it."""

from __future__ import annotations

import json
import zlib
from typing import Any

from .values import storable


def unzipped(data: bytes) -> bytes:
    """Return a payload as it was before RQ compressed it; ours are not, until RQ's own code saves such a job again."""
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def read_call(data: bytes) -> dict[str, Any] | None:
    """Return name and data of a foreign job from its payload, or None if that is not JSON (it is never unpickled)."""
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
    """Return what a foreign job calls, for people."""
    call = read_call(data)
    return call["name"] if call else "(pickled)"
