"""``python -m tests.support.run_maintenance``: the maintenance of the first Redis, leader or
not."""

from __future__ import annotations

import sys

import django


def main() -> int:
    django.setup()
    from wellos_jobs import broker
    from wellos_jobs.maintenance.housekeeping import Housekeeping
    from wellos_jobs.processes.shared_memory import Slot

    return Housekeeping(next(iter(broker.sources())), Slot()).run()


if __name__ == "__main__":
    sys.exit(main())
