"""``manage.py rqscheduler``: run schedules and rq-scheduler's entries, and the housekeeping."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from ... import broker, conf
from ...errors import UnknownQueue
from ...worker.known_code import queue_set_of
from ...worker.supervisor import Supervisor, SupervisorOptions
from ...worker.worker import WorkerOptions
from .. import console_log
from ..all_jobs import require_all_jobs
from ..own_redis import require_own_redis, require_reachable_redis


class Command(BaseCommand):
    help = "Run the scheduler. Of several, one leads; another takes over within seconds."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--queue", default="default", help="any queue on the Redis to use (default: default)"
        )
        parser.add_argument("--pid", help="file to write the process id to")
        parser.add_argument(
            "-i", "--interval", type=int, help="ignored: the scheduler wakes up when a run is due"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        require_reachable_redis()
        console_log.open_standard_streams()
        require_all_jobs()
        try:
            conf.queue(options["queue"])
        except UnknownQueue as error:
            raise CommandError(str(error)) from error

        console_log.configure(options["verbosity"])
        if options["interval"] is not None:
            self.stderr.write(
                _("--interval is ignored: the scheduler sleeps until the next run is due")
            )

        source = broker.source_of(options["queue"])
        queues = broker.sources()[source]
        require_own_redis(source)
        if options["pid"]:
            Path(options["pid"]).expanduser().write_text(str(os.getpid()))
        worker = WorkerOptions(source=source, queues=queues, queue_set=queue_set_of(queues))
        sys.exit(Supervisor(SupervisorOptions(worker=worker, processes=0, clock=True)).run())
