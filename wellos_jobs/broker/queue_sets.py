"""Queue sets: the ordered queues a worker serves, known to Redis under a short id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def set_id(queues: Sequence[str]) -> str:
    """Return the id of an ordered set of queues: the same queues in the same order share one."""
    return hashlib.sha256("\x1f".join(queues).encode()).hexdigest()[:12]
