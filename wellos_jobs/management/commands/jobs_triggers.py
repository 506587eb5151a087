"""``manage.py jobs_triggers``: list which signals enqueue which jobs."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ...enqueueing.triggers import all_triggers, sender_name, signal_name


class Command(BaseCommand):
    help = "List the triggers: signal, sender, job, queue, and where each is declared."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="print a JSON list instead of a table"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        rows = [
            {
                "name": trigger.name,
                "signal": signal_name(trigger.signal),
                "sender": sender_name(trigger.sender),
                "job": trigger.enqueues,
                "queue": trigger.job.definition.queue if trigger.job else "",
                "declared_at": trigger.declared_at,
            }
            for trigger in all_triggers()
        ]

        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2))
            return
        if not rows:
            self.stdout.write("No triggers are declared (see enqueue_on).")
            return

        columns = ("signal", "sender", "job", "queue", "declared_at")
        table = [{column: column for column in columns}, *rows]
        widths = {column: max(len(row[column]) for row in table) for column in columns}
        for row in table:
            cells = (row[column].ljust(widths[column]) for column in columns)
            self.stdout.write("  ".join(cells).rstrip())
