"""What a job of foreign code calls, read from its payload without ever unpickling it."""

from __future__ import annotations

import json
import zlib
from typing import Any


def read_call(data: bytes) -> dict[str, Any] | None:
    """Return name and data of a foreign job from its payload, or None if that is not JSON (it is never unpickled)."""
    try:
        raw = zlib.decompress(data)
    except zlib.error:
        raw = data
    try:
        path, instance, args, kwargs = json.loads(raw)
    except (ValueError, TypeError):
        return None
    data_shown = dict(kwargs or {})
    if args:
        data_shown["args"] = args
    return {"name": f"{instance}.{path}" if instance else str(path), "data": data_shown}
