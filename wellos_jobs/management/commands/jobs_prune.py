"""``manage.py jobs_prune``: delete the rows of jobs that ended longer ago than WELLOS_JOBS["RETENTION"] says."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ...database import migrated_databases
from ...maintenance.prune import prune

NAMES = {
    "dead_letters": "open dead letters",
    "statistics": "counts for charts",
    "audit": "entries of the audit log",
}
"""What is no job among the kinds of rows."""


class Command(BaseCommand):
    help = "Delete the rows of jobs that ended longer ago than WELLOS_JOBS['RETENTION'] says."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="only count what would be deleted"
        )
        parser.add_argument(
            "--database",
            action="append",
            default=[],
            help="a database alias (default: all that hold jobs)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        verb = "would be deleted" if options["dry_run"] else "deleted"
        for alias in options["database"] or migrated_databases():
            counted = prune(alias, dry_run=options["dry_run"])
            for kind, count in counted.items():
                self.stdout.write(f"{alias}: {NAMES.get(kind, f'{kind} jobs')}: {count} {verb}")
