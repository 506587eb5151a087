"""Shared memory between a supervisor and its children: beat, deadline, current job, and orders to the child.

Anonymous and inherited over fork, so it needs no name and no clean-up. Times are ``time.monotonic``, which all
processes of a machine share.
"""

from __future__ import annotations

import enum
import mmap
import struct
import time

_LAYOUT = struct.Struct("ddi192s")


class Order(enum.IntEnum):
    """What the supervisor wants of the run in hand."""

    NONE = 0
    STOP_JOB = 1
    HAND_BACK = 2


class Slot:
    """One child's page. The child writes beat, deadline and job; the supervisor writes the order."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _LAYOUT.size)
        self.clear()

    def clear(self) -> None:
        """Make ready for a new child."""
        self._memory[:] = _LAYOUT.pack(time.monotonic(), 0.0, Order.NONE, b"")

    def beat(self) -> None:
        """Say: I live and I am not in a job."""
        struct.pack_into("d", self._memory, 0, time.monotonic())

    def begin(self, job_id: str, seconds: float) -> None:
        """Say: I run this job, and may do so for that long."""
        now = time.monotonic()
        self._memory[:] = _LAYOUT.pack(now, now + seconds, Order.NONE, job_id.encode()[:192])

    def end(self) -> None:
        """Say: the job has ended."""
        self._memory[:] = _LAYOUT.pack(time.monotonic(), 0.0, self.order, b"")

    @property
    def last_beat(self) -> float:
        return float(struct.unpack_from("d", self._memory, 0)[0])

    @property
    def deadline(self) -> float:
        """When the current run should have ended; 0.0 between runs."""
        return float(struct.unpack_from("d", self._memory, 8)[0])

    @property
    def job_id(self) -> str:
        _, _, _, job_id = _LAYOUT.unpack(self._memory[:])
        return str(job_id.rstrip(b"\x00").decode("utf-8", "replace"))

    @property
    def order(self) -> Order:
        return Order(struct.unpack_from("i", self._memory, 16)[0])

    @order.setter
    def order(self, order: Order) -> None:
        struct.pack_into("i", self._memory, 16, order)
