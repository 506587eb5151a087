"""What a job of foreign code calls, read from its payload without ever unpickling it."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any


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


def storable(value: Any) -> Any:
    """Return JSON data without what some database refuses: NUL characters, halves of surrogate pairs, NaN, infinity."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return value
