"""``python -m tests.support.run_scheduler STARTED SECONDS FROM UNTIL ...``: `rqscheduler` with a
moved clock.


It shows the windows one after the other, each within so many real seconds since STARTED (Unix
seconds), and then stands still. All processes that are started with the same arguments tell the
same time.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

import django


def moved(started: float, seconds: float, windows: list[tuple[float, float]]) -> float:
    """Return the moved time of this moment."""
    elapsed = max(0.0, time.time() - started)
    number = min(int(elapsed // seconds), len(windows) - 1)
    begin, end = windows[number]
    return begin + (end - begin) * min(1.0, (elapsed - number * seconds) / seconds)


def main(arguments: list[str]) -> int:
    django.setup()
    import django_rq

    from wellos_jobs.management import console_log
    from wellos_jobs.scheduler import Scheduler
    from wellos_jobs.schedules.clock import Clock

    console_log.configure(1)
    started, seconds = float(arguments[0]), float(arguments[1])
    times = [datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in arguments[2:]]
    windows = list(zip(times[::2], times[1::2], strict=True))
    queue = django_rq.get_queue("default")
    scheduler = Scheduler(
        queue=queue, connection=queue.connection, clock=lambda: moved(started, seconds, windows)
    )
    return Clock("default", scheduler).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
