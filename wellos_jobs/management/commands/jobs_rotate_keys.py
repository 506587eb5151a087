"""``manage.py jobs_rotate_keys``: re-encrypt sensitive values with the first of ENCRYPTION_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import broker, conf
from ...database import migrated_databases
from ...maintenance.key_rotation import RotationCount, rotate_hashes, rotate_rows


class Command(BaseCommand):
    help = (
        "Re-encrypt the sensitive values of all jobs and schedules with the first of "
        "WELLOS_JOBS['ENCRYPTION_KEYS'], in all databases and in Redis. First add the new key at "
        "the front and restart all processes; remove the old key after a run that rotated nothing. "
        "Safe while jobs run; an interrupted run can be repeated."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not conf.current().encryption_keys:
            raise CommandError("WELLOS_JOBS['ENCRYPTION_KEYS'] is empty: add a key to rotate to.")

        # Rows first: what the relay pushes afterwards is already re-encrypted.
        counts = {f"database {alias}": rotate_rows(alias) for alias in migrated_databases()}
        for source in broker.sources():
            try:
                counts[f"Redis of queue {source}"] = rotate_hashes(source)
            except broker.Unavailable as error:
                raise CommandError(
                    f"The Redis of queue {source!r} is unavailable: {error}"
                ) from error

        for place, count in counts.items():
            self._print(place, count)
        if unreadable := sum(count.unreadable for count in counts.values()):
            raise CommandError(
                f"{unreadable} jobs cannot be decrypted with any key: is an old key missing?"
            )

    def _print(self, place: str, count: RotationCount) -> None:
        line = f"{place}: {count.seen} jobs seen, {count.rotated} rotated"
        if count.skipped:
            line += f", {count.skipped} changed meanwhile: run again"
        self.stdout.write(line)
