"""``manage.py jobs_rotate_keys``: encrypt sensitive values anew with the first of ENCRYPTION_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import broker, conf
from ...database import migrated_databases
from ...maintenance.key_rotation import RotationCount, rotate_hashes, rotate_rows


class Command(BaseCommand):
    help = (
        "Encrypt the sensitive values of all jobs and schedules anew with the first of WELLOS_JOBS['ENCRYPTION_KEYS'], "
        "in all databases and in Redis. Put the new key in front and restart everything first; take the old key out "
        "after a run that rotated nothing. Running jobs are not disturbed, and a run may be broken off and repeated."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not conf.current().encryption_keys:
            raise CommandError(
                "WELLOS_JOBS['ENCRYPTION_KEYS'] is empty: there is nothing to rotate to."
            )
        # Rows first: what a relay reads after this is new, so that Redis cannot get old values
        # behind our back.
        counts = {f"database {alias}": rotate_rows(alias) for alias in migrated_databases()}
        for source in broker.sources():
            try:
                counts[f"Redis of queue {source}"] = rotate_hashes(source)
            except broker.Unavailable as error:
                raise CommandError(
                    f"The Redis of queue {source!r} cannot be reached: {error}"
                ) from error
        for place, count in counts.items():
            self._tell(place, count)
        if unreadable := sum(count.unreadable for count in counts.values()):
            raise CommandError(
                f"{unreadable} jobs cannot be read with any of the keys: is an old key missing?"
            )

    def _tell(self, place: str, count: RotationCount) -> None:
        line = f"{place}: {count.seen} jobs seen, {count.rotated} rotated"
        if count.skipped:
            line += f", {count.skipped} changed meanwhile (run again)"
        self.stdout.write(line)
