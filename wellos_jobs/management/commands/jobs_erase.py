"""``manage.py jobs_erase``: erase a person from jobs, dead letters, logs and the audit log."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import operations
from ...database import migrated_databases
from ...errors import InvalidOperation

NOT_SEARCHED = (
    "Not searched: encrypted values, Redis (ended jobs stay there for a minute), log files, mail "
    "servers, files made by jobs, and backups."
)


class Command(BaseCommand):
    help = (
        "Erase a person: the authorship of a user, and texts such as an email address, wherever "
        "they stand."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("texts", nargs="*", metavar="text", help="text to erase, in any case")
        parser.add_argument("--user", help="primary key of the user, who may be deleted already")
        parser.add_argument("--username", default="", help="the name under which the user acted")
        parser.add_argument("--reason", default="", help="why, for the audit log, without a name")

    def handle(self, *args: Any, **options: Any) -> None:
        left = 0
        for database in migrated_databases():
            try:
                found = operations.erase_person(
                    database,
                    user_id=options["user"],
                    username=options["username"],
                    texts=options["texts"],
                    reason=options["reason"],
                )
            except (InvalidOperation, ValueError) as error:
                raise CommandError(str(error)) from error

            for label, rows in sorted(found.changed.items()):
                self.stdout.write(f"{database}: {label}: {rows} rows changed")
            for job_id in found.open_jobs:
                self.stdout.write(f"{database}: job {job_id} is open and keeps its data")
            left += len(found.open_jobs)

        self.stdout.write(NOT_SEARCHED)
        if left:
            raise CommandError(f"{left} open jobs are left: cancel them or wait, then repeat this")
