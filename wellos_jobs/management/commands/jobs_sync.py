"""``manage.py jobs_sync``: bring the schedules' rows in line with what code and settings declare."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from ... import schedules
from ...errors import WellosJobsError


class Command(BaseCommand):
    help = "Create, change and disable schedules as declared; what people changed by hand stays."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            done = schedules.synchronise()
        except (ValidationError, WellosJobsError) as error:
            text = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
            raise CommandError(f"Nothing was changed: {text}") from error
        for verb in ("created", "changed", "disabled"):
            for name in getattr(done, verb):
                self.stdout.write(f"{verb} {name}")
        if not (done.created or done.changed or done.disabled):
            self.stdout.write("Everything is as declared.")
