"""``manage.py jobs_installation``: show to whom database and Redis belong; confirm a new place."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...errors import InvalidOperation
from ...operations import installations


class Command(BaseCommand):
    help = (
        "Show to which installation the databases and Redis belong. After a copy or a move, "
        "confirm it: nothing is run before."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--copy",
            action="store_true",
            help="this database is a copy: cancel its open jobs, disable its schedules, and let it "
            "be an installation of its own",
        )
        which.add_argument(
            "--moved",
            action="store_true",
            help="the installation has moved here, or has a new name: its jobs and schedules go on",
        )
        parser.add_argument(
            "--take-over",
            action="store_true",
            help="take a Redis that belongs to another installation, with the jobs in it",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["copy"]:
                stopped = installations.confirm_copy(take_over=options["take_over"])
                self.stdout.write(
                    f"{stopped['jobs']} open jobs canceled, {stopped['schedules']} schedules "
                    "disabled"
                )
            elif options["moved"] or options["take_over"]:
                installations.confirm_move(take_over=options["take_over"])
        except InvalidOperation as error:
            raise CommandError(str(error)) from error

        problems = []
        for finding in installations.findings():
            self.stdout.write(
                f"database {finding.database}, Redis of queue {finding.source}: "
                f"{finding.verdict}; installation {finding.in_database.identity or '(new)'} "
                f"at {finding.home}"
            )
            if finding.problem:
                problems.append(finding.problem)
        if problems:
            raise CommandError("\n".join(problems))
