"""Memory shared by a supervisor and one child: heartbeat, current run, and orders for that run.

It is anonymous and inherited over fork, so it needs neither a name nor a clean-up. Times are
``time.monotonic``, which all processes of a machine share. Runs are numbered, so that an order or a
kill that was meant for one run never hits the next.
"""

from __future__ import annotations

import enum
import mmap
import struct
import time
from dataclasses import dataclass

_BEAT, _DEADLINE, _RUN, _ORDERED_RUN, _ORDER, _JOB = 0, 8, 16, 24, 32, 40
_MAX_JOB_ID = 192
_SIZE = _JOB + _MAX_JOB_ID


class Order(enum.IntEnum):
    """What the supervisor wants from the current run."""

    NONE = 0
    STOP_JOB = 1
    HAND_BACK = 2


@dataclass(frozen=True, slots=True)
class Run:
    """The current run of a child. ``deadline`` is when it should have ended."""

    number: int
    job_id: str
    deadline: float


class Slot:
    """The shared page of one child: it writes heartbeat and run, the supervisor the order."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)
        self.clear()

    def clear(self) -> None:
        """Reset for a new child."""
        self._memory[:] = bytes(_SIZE)
        self.beat()

    def beat(self) -> None:
        """Record a heartbeat."""
        struct.pack_into("d", self._memory, _BEAT, time.monotonic())

    def begin(self, job_id: str, seconds: float) -> None:
        """Record the start of a run with this time limit."""
        self._memory[_JOB:] = job_id.encode()[:_MAX_JOB_ID].ljust(_MAX_JOB_ID, b"\x00")
        struct.pack_into("q", self._memory, _RUN, self.number + 1)
        self.beat()
        # The deadline comes last: a reader that sees it sees the rest.
        self.extend(seconds)

    def extend(self, seconds: float) -> None:
        """Set the deadline of the current run to this many seconds from now."""
        struct.pack_into("d", self._memory, _DEADLINE, time.monotonic() + seconds)

    def end(self) -> None:
        """Record the end of the run."""
        struct.pack_into("d", self._memory, _DEADLINE, 0.0)
        self.beat()

    @property
    def last_beat(self) -> float:
        return float(struct.unpack_from("d", self._memory, _BEAT)[0])

    @property
    def number(self) -> int:
        """How many runs the child has started."""
        return int(struct.unpack_from("q", self._memory, _RUN)[0])

    @property
    def run(self) -> Run | None:
        """The current run; None between runs."""
        number = self.number
        deadline = float(struct.unpack_from("d", self._memory, _DEADLINE)[0])
        job_id = self._memory[_JOB:].rstrip(b"\x00").decode("utf-8", "replace")
        if not deadline or number != self.number:  # it changed while being read
            return None
        return Run(number, job_id, deadline)

    def give(self, order: Order, run: Run) -> None:
        """Give an order to a run. A child that is in another run by now does not obey."""
        struct.pack_into("q", self._memory, _ORDERED_RUN, run.number)
        struct.pack_into("i", self._memory, _ORDER, order)

    @property
    def order(self) -> Order:
        """The order for the current run."""
        if struct.unpack_from("q", self._memory, _ORDERED_RUN)[0] != self.number:
            return Order.NONE
        return Order(struct.unpack_from("i", self._memory, _ORDER)[0])
