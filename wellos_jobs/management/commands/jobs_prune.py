"""``manage.py jobs_prune``: delete rows past WELLOS_JOBS["RETENTION"]."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ...database import migrated_databases
from ...maintenance.prune import prune

LABELS = {
    "dead_letters": "open dead letters",
    "statistics": "statistics",
    "audit": "audit log entries",
}
"""Labels of the kinds of rows that are not jobs."""


class Command(BaseCommand):
    help = "Delete rows of jobs that ended longer ago than WELLOS_JOBS['RETENTION']."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="only show how many rows would be deleted"
        )
        parser.add_argument(
            "--database",
            action="append",
            default=[],
            help="database alias, may be repeated (default: all databases with jobs)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        verb = "would be deleted" if options["dry_run"] else "deleted"
        for alias in options["database"] or migrated_databases():
            counted = prune(alias, dry_run=options["dry_run"])
            for kind, count in counted.items():
                self.stdout.write(f"{alias}: {LABELS.get(kind, f'{kind} jobs')}: {count} {verb}")
