"""For commands that need the jobs of all apps."""

from __future__ import annotations

from django.core.management.base import CommandError

from ..definitions import registry


def require_all_jobs() -> None:
    """Refuse to go on if the jobs of an app are unknown because they cannot be imported.

    A worker would make dead letters of its jobs, a scheduler would disable its schedules.

    Raises:
        CommandError: the message names each app and its error.
    """
    if failed := registry.failed_imports():
        listed = "; ".join(f"{app!r} ({error})" for app, error in failed.items())
        raise CommandError(
            f"The jobs of these apps cannot be imported: {listed}. Fix the import, or leave the "
            "app out with WELLOS_JOBS['IGNORED_APPS']."
        )
