"""``python -m tests.keeper``: the housekeeping of the first Redis, whoever leads; for tests with two leaders."""

from __future__ import annotations

import sys

import django


def main() -> int:
    django.setup()
    from wellos_jobs import redis
    from wellos_jobs.housekeeping import Housekeeping
    from wellos_jobs.slots import Slot

    return Housekeeping(next(iter(redis.sources())), Slot()).run()


if __name__ == "__main__":
    sys.exit(main())
