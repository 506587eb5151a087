"""The supervisor's service processes: maintenance (leader only) and the scheduler."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable

from ..maintenance.housekeeping import Housekeeping
from ..processes.child import Child, close_lifeline, fork
from ..processes.slot import Slot
from ..scheduler import scheduler_of
from ..schedules.clock import Clock

logger = logging.getLogger("wellos_jobs")

HEARTBEAT_TIMEOUT = 120.0
"""Seconds without a heartbeat after which a service counts as hung.

Longer than a worker's, since one pass over a large table takes long.
"""
LEAVE_GRACE = 10.0
RESTART_PAUSE = 1.0
HOUSEKEEPING = "housekeeping"
CLOCK = "clock"


class ServiceProcesses:
    """Starts, watches and stops the service processes of one supervisor."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.alive: dict[str, Child] = {}
        self._slots = {HOUSEKEEPING: Slot(), CLOCK: Slot()}
        self._ended_at: dict[str, float] = {}

    def start(self, name: str) -> None:
        """Start a service, unless it is running or has ended a moment ago."""
        ended_at = self._ended_at.get(name, -RESTART_PAUSE)
        if name in self.alive or time.monotonic() - ended_at < RESTART_PAUSE:
            return

        slot = self._slots[name]
        bodies: dict[str, Callable[[], int]] = {
            HOUSEKEEPING: lambda: Housekeeping(self.source, slot).run(),
            CLOCK: lambda: Clock(self.source, scheduler_of(self.source), slot).run(),
        }
        self.alive[name] = fork(name, slot, bodies[name])
        logger.info("%s started, pid %d", name, self.alive[name].pid)

    def stop(self, name: str) -> None:
        """Ask a service to end."""
        if name in self.alive:
            self.alive[name].send(signal.SIGTERM)

    def ended(self, pid: int, status: int) -> bool:
        """Remove a child that has ended. Returns whether it was a service."""
        for name, child in self.alive.items():
            if child.pid != pid:
                continue

            code = os.waitstatus_to_exitcode(status)
            level = logging.INFO if code == 0 else logging.WARNING
            logger.log(level, "%s ended (status %d)", name, code)
            close_lifeline(child)
            self._ended_at[name] = time.monotonic()
            del self.alive[name]
            return True
        return False

    def kill_hung(self) -> None:
        """Kill services that no longer send heartbeats."""
        for name, child in self.alive.items():
            if time.monotonic() - child.slot.last_beat > HEARTBEAT_TIMEOUT:
                logger.warning("%s sends no heartbeat, killing it", name)
                child.send(signal.SIGKILL)

    def leave(self, collect: Callable[[], None], *, leads: bool) -> None:
        """Stop all services.

        A supervisor that ``leads`` applies the last events, even if the housekeeping has ended
        before the workers did. ``collect`` reports children that have ended.
        """
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
