"""``manage.py jobs_erase``: erase a person from jobs, dead letters, logs and the audit log."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import operations
from ...database import migrated_databases
from ...errors import InvalidOperation
from ...operations.erasure import Erasure

NOT_SEARCHED = (
    "Not searched: encrypted values, Redis (ended jobs stay there for a minute), log files, mail "
    "servers, files made by jobs, and backups."
)


class Command(BaseCommand):
    help = (
        "Erase a person: the authorship of a user, and texts such as an email address, wherever "
        "they stand. An interrupted run can be repeated."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("texts", nargs="*", metavar="text", help="text to erase, in any case")
        parser.add_argument("--user", help="primary key of the user, who may be deleted already")
        parser.add_argument("--username", default="", help="the name under which the user acted")
        parser.add_argument("--reason", default="", help="why, for the audit log, without a name")
        parser.add_argument("--dry-run", action="store_true", help="only count the rows")

    def handle(self, *args: Any, **options: Any) -> None:
        is_rehearsal = options["dry_run"]
        left = 0
        try:
            person = operations.Person(options["user"], options["username"], options["texts"])
            for database in migrated_databases():
                if is_rehearsal:
                    found = operations.find_person(database, person)
                else:
                    found = operations.erase_person(database, person, reason=options["reason"])
                self._print(database, found, "to change" if is_rehearsal else "changed")
                left += len(found.open_jobs)
        except InvalidOperation as error:
            raise CommandError(str(error)) from error

        self.stdout.write(NOT_SEARCHED)
        if left and not is_rehearsal:
            raise CommandError(f"{left} open jobs are left: cancel them or wait, then repeat this")

    def _print(self, database: str, found: Erasure, what: str) -> None:
        for label, rows in sorted(found.changed.items()):
            self.stdout.write(f"{database}: {label}: {rows} rows {what}")
        for job_id in found.open_jobs:
            self.stdout.write(f"{database}: job {job_id} is open and keeps its data")
