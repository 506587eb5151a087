"""The other children of a supervisor: the housekeeping while it leads, and the clock of `rqscheduler`."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable

from ..maintenance.housekeeping import Housekeeping
from ..processes.child import Child, buried, fork
from ..processes.slot import Slot
from ..scheduler import scheduler_of
from ..schedules.clock import Clock

logger = logging.getLogger("wellos_jobs")

SILENCE = 120.0
"""Seconds without a beat after which an aide counts as hung: one pass over a large table takes long."""
LEAVE_GRACE = 10.0
RESTART_PAUSE = 1.0
HOUSEKEEPING = "housekeeping"
CLOCK = "clock"


class Aides:
    """Starts, watches and ends the aides of one supervisor."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.alive: dict[str, Child] = {}
        self._slots = {HOUSEKEEPING: Slot(), CLOCK: Slot()}
        self._ended_at: dict[str, float] = {}

    def start(self, name: str) -> None:
        """Start an aide, unless it runs or has ended just now."""
        if (
            name in self.alive
            or time.monotonic() - self._ended_at.get(name, -RESTART_PAUSE) < RESTART_PAUSE
        ):
            return
        slot = self._slots[name]
        bodies: dict[str, Callable[[], int]] = {
            HOUSEKEEPING: lambda: Housekeeping(self.source, slot).run(),
            CLOCK: lambda: Clock(self.source, scheduler_of(self.source), slot).run(),
        }
        self.alive[name] = fork(name, slot, bodies[name])
        logger.info("%s started, pid %d", name, self.alive[name].pid)

    def stop(self, name: str) -> None:
        """Ask an aide to end."""
        if name in self.alive:
            self.alive[name].send(signal.SIGTERM)

    def ended(self, pid: int, status: int) -> bool:
        """Take note of a child that has ended; tell whether it was an aide."""
        for name, child in self.alive.items():
            if child.pid == pid:
                code = os.waitstatus_to_exitcode(status)
                logger.log(
                    logging.INFO if code == 0 else logging.WARNING,
                    "%s ended (status %d)",
                    name,
                    code,
                )
                buried(child)
                self._ended_at[name] = time.monotonic()
                del self.alive[name]
                return True
        return False

    def guard(self) -> None:
        """Kill an aide that hangs."""
        for name, child in self.alive.items():
            if time.monotonic() - child.slot.last_beat > SILENCE:
                logger.warning("%s gives no sign of life, killing it", name)
                child.send(signal.SIGKILL)

    def leave(self, collect: Callable[[], None], *, leads: bool) -> None:
        """End all aides. Who ``leads`` has a last look at the stream, also if the housekeeping ended before the workers
        did. ``collect`` reports children that ended."""
        deadline = time.monotonic() + LEAVE_GRACE
        for name in self.alive:
            self.stop(name)
        if leads and HOUSEKEEPING not in self.alive:
            slot = self._slots[HOUSEKEEPING]
            self.alive[HOUSEKEEPING] = fork(
                HOUSEKEEPING, slot, lambda: Housekeeping(self.source, slot).last_look()
            )
        while self.alive:
            collect()
            if time.monotonic() > deadline:
                for child in self.alive.values():
                    child.send(signal.SIGKILL)
            time.sleep(0.02)
