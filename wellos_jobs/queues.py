"""``LaneQueue``, for ``RQ['QUEUE_CLASS']``."""

from __future__ import annotations

from .broker.rq_queue import LaneQueue

__all__ = ["LaneQueue"]
