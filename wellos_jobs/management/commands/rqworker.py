"""``manage.py rqworker``: supervised workers for one Redis. Accepts django-rq's options."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from ... import broker, conf
from ...errors import UnknownQueue
from ...worker.chosen_name import living_holder
from ...worker.known_code import queue_set_of
from ...worker.supervisor import Supervisor, SupervisorOptions
from ...worker.worker import WorkerOptions
from .. import console_log
from ..all_jobs import require_all_jobs
from ..own_redis import require_own_redis, require_reachable_redis

logger = logging.getLogger("wellos_jobs")

UNSUPPORTED = {
    "worker_class": "wellos_jobs uses its own workers",
    "queue_class": "set RQ['QUEUE_CLASS'] instead",
    "job_class": "set RQ['JOB_CLASS'] instead",
    "serializer": "set SERIALIZER in RQ_QUEUES instead; only JSON is supported",
}


class Command(BaseCommand):
    help = (
        "Run supervised workers on the named queues (default: all queues on the default queue's "
        "Redis)."
    )
    # Checks belong in ``manage.py check`` before a deployment, not in each start of a worker.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "queues", nargs="*", metavar="queue", help="queues to work on, most important first"
        )
        parser.add_argument("--processes", type=int, default=1, help="worker processes (default 1)")

        self._add_lifetime_arguments(parser)

        parser.add_argument(
            "--name", help="name of the worker; several processes get the suffixes -1, -2 ..."
        )
        parser.add_argument(
            "--worker-ttl",
            type=int,
            default=90,
            help="seconds for which RQ shows a worker that has stopped responding",
        )
        parser.add_argument("--pid", help="file to write the process id to")

        parser.add_argument(
            "--with-scheduler", action="store_true", help="ignored: delayed jobs are always moved"
        )
        for option in UNSUPPORTED:
            parser.add_argument(f"--{option.replace('_', '-')}", dest=option, help="not supported")

    def _add_lifetime_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that say when worker processes stop or are replaced."""
        parser.add_argument("--burst", action="store_true", help="stop when no job is waiting")
        parser.add_argument("--max-jobs", type=int, help="jobs after which a process stops")
        parser.add_argument(
            "--recycle-jobs", type=int, help="jobs after which a process is replaced"
        )
        parser.add_argument(
            "--recycle-memory",
            type=int,
            metavar="MIB",
            help="memory in MiB above which a process is replaced after its job",
        )
        parser.add_argument(
            "--max-idle-time",
            type=float,
            help="seconds without a job after which a process stops",
        )
        parser.add_argument(
            "--shutdown-timeout",
            type=float,
            default=25.0,
            help="seconds for running jobs to finish after SIGTERM before they return to the queue "
            "(default 25)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        require_reachable_redis()
        console_log.open_standard_streams()
        require_all_jobs()
        self._check_options(options)
        source, queues = self._queues(options["queues"])

        console_log.configure(options["verbosity"])
        if options["with_scheduler"]:
            self.stderr.write(_("--with-scheduler is ignored: delayed jobs are always moved"))

        supervisor = SupervisorOptions(
            worker=WorkerOptions(
                source=source,
                queues=queues,
                queue_set=queue_set_of(queues),
                burst=options["burst"],
                max_jobs=options["max_jobs"],
                max_idle=options["max_idle_time"],
                recycle_jobs=options["recycle_jobs"],
                recycle_memory=options["recycle_memory"] and options["recycle_memory"] * 2**20,
            ),
            processes=options["processes"],
            name=options["name"],
            shutdown_timeout=options["shutdown_timeout"],
            worker_ttl=options["worker_ttl"],
        )

        self._check_name(source, options["name"], options["processes"])
        require_own_redis(source)
        if options["pid"]:
            Path(options["pid"]).expanduser().write_text(str(os.getpid()))
        logger.info(
            "supervisor: %d worker processes on %s", options["processes"], ", ".join(queues)
        )
        sys.exit(Supervisor(supervisor).run())

    def _check_options(self, options: dict[str, Any]) -> None:
        for option, why in UNSUPPORTED.items():
            if options[option] is not None:
                raise CommandError(
                    f"--{option.replace('_', '-')} is not supported: {why}", returncode=2
                )

        for option in (
            "processes",
            "max_jobs",
            "recycle_jobs",
            "recycle_memory",
            "worker_ttl",
            "max_idle_time",
        ):
            if options[option] is not None and options[option] < 1:
                raise CommandError(f"--{option.replace('_', '-')} must be at least 1", returncode=2)

        if options["shutdown_timeout"] < 0:
            raise CommandError("--shutdown-timeout must not be negative", returncode=2)

    def _queues(self, named: list[str]) -> tuple[str, list[str]]:
        try:
            if not named:
                first = conf.default_queue()
                source = broker.source_of(first)
                return source, broker.sources()[source]
            for name in named:
                conf.usable_queue(name)
            sources = {name: broker.source_of(name) for name in named}
        except UnknownQueue as error:
            raise CommandError(str(error)) from error

        if len(set(sources.values())) > 1:
            places = ", ".join(f"{name} (Redis of {source})" for name, source in sources.items())
            raise CommandError(
                f"These queues are on different Redis servers: {places}. "
                "Start one rqworker for each."
            )
        return sources[named[0]], list(dict.fromkeys(named))

    def _check_name(self, source: str, name: str | None, processes: int) -> None:
        if name is None:
            return

        try:
            holder = living_holder(source, name, processes)
        except broker.Unavailable:
            return  # the supervisor will wait for Redis

        if holder is not None:
            raise CommandError(
                f"A worker named {holder.worker!r} is running, with pid {holder.pid} on"
                f" {holder.host}: stop it or choose another --name"
            )
