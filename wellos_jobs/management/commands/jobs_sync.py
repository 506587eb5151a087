"""``manage.py jobs_sync``: synchronize schedules with their declarations in code and settings."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import schedules
from ..all_jobs import require_all_jobs


class Command(BaseCommand):
    help = "Create, change and disable schedules as declared. Options changed by users stay."

    def handle(self, *args: Any, **options: Any) -> None:
        require_all_jobs()
        done = schedules.synchronize()

        for change in ("created", "changed", "disabled"):
            for name in getattr(done, change):
                self.stdout.write(f"{change} {name}")
        if not done:
            self.stdout.write("All schedules are up to date.")

        if done.failed:
            raise CommandError(
                "\n".join(f"Schedule {name!r}: {text}" for name, text in done.failed.items())
            )
