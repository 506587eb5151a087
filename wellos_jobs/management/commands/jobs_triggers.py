"""``manage.py jobs_triggers``: which signals enqueue which jobs."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ...enqueueing.triggers import all_triggers, sender_name, signal_name


class Command(BaseCommand):
    help = (
        "List the triggers: the signal, whose it is, what it enqueues, and where that is declared."
    )
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
            self.stdout.write("No trigger is declared: see enqueue_on.")
            return
        shown = ("signal", "sender", "job", "queue", "declared_at")
        widths = {key: max([len(key), *(len(row[key]) for row in rows)]) for key in shown}
        for row in [{key: key for key in shown}, *rows]:
            self.stdout.write("  ".join(row[key].ljust(widths[key]) for key in shown).rstrip())
