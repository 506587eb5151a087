"""The supervisor's service processes: maintenance (leader only) and the scheduler."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable

from ..maintenance.housekeeping import Housekeeping
from ..processes.child import Child, close_lifeline, fork
from ..processes.shared_memory import Slot
from ..scheduler import scheduler_of
from ..schedules.clock import Clock

logger = logging.getLogger("wellos_jobs")

HEARTBEAT_TIMEOUT = 120.0
"""Seconds without a heartbeat after which a service counts as hung.

Longer than a worker's, since one pass over a large table takes long.
"""
LEAVE_GRACE = 10.0
RESTART_PAUSE = 1.0
"""Seconds before a service is started again that had ended soon after its start."""
SOON = 10.0
"""Seconds of life below which a service ended soon after its start."""
HOUSEKEEPING = "housekeeping"
CLOCK = "clock"


class ServiceProcesses:
    """Starts, watches and stops the service processes of one supervisor."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.alive: dict[str, Child] = {}
        self._slots = {HOUSEKEEPING: Slot(), CLOCK: Slot()}
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    def start(self, name: str) -> None:
        """Start a service, unless it is running or ended a moment ago, soon after its start."""
        if name in self.alive or time.monotonic() < self._not_before.get(name, 0.0):
            return

        slot = self._slots[name]
        bodies: dict[str, Callable[[], int]] = {
            HOUSEKEEPING: lambda: Housekeeping(self.source, slot).run(),
            CLOCK: lambda: Clock(self.source, scheduler_of(self.source), slot).run(),
        }
        self.alive[name] = fork(name, slot, bodies[name], calls_on_stop=True)
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
            self._note_end(name, soon=time.monotonic() - child.born < SOON, failed=code != 0)
            del self.alive[name]
            return True
        return False

    def is_failing(self, name: str) -> bool:
        """Return whether a service has failed twice in a row, each time soon after its start.

        Asking forgets it.
        """
        failing = self._failures.get(name, 0) > 1
        if failing:
            self._failures[name] = 0
        return failing

    def _note_end(self, name: str, *, soon: bool, failed: bool) -> None:
        self._failures[name] = self._failures.get(name, 0) + 1 if soon and failed else 0
        if soon:
            self._not_before[name] = time.monotonic() + RESTART_PAUSE

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
