"""``python -m tests.support.run_supervisor processes=2 timeout_grace=1``: a supervisor with any
option."""

from __future__ import annotations

import sys

import django


def main(arguments: list[str]) -> int:
    django.setup()
    from wellos_jobs import broker
    from wellos_jobs.worker.known_code import queue_set_of
    from wellos_jobs.worker.supervisor import Supervisor, SupervisorOptions
    from wellos_jobs.worker.worker import WorkerOptions

    source, queues = next(iter(broker.sources().items()))
    given = dict(argument.split("=") for argument in arguments)
    processes = int(given.pop("processes", 1))
    options = SupervisorOptions(
        worker=WorkerOptions(source, queues, queue_set_of(queues)),
        processes=processes,
        **{name: float(value) for name, value in given.items()},
    )
    return Supervisor(options).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
