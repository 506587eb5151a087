"""``manage.py jobs_sync``: bring the schedules' rows in line with what code and settings declare."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import schedules


class Command(BaseCommand):
    help = "Create, change and disable schedules as declared; what people changed by hand stays."

    def handle(self, *args: Any, **options: Any) -> None:
        done = schedules.synchronise()
        for verb in ("created", "changed", "disabled"):
            for name in getattr(done, verb):
                self.stdout.write(f"{verb} {name}")
        if not done:
            self.stdout.write("Everything is as declared.")
        if done.failed:
            raise CommandError(
                "\n".join(f"Schedule {name!r}: {text}" for name, text in done.failed.items())
            )
