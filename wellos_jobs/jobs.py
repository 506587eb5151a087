"""The jobs of this app, found by autodiscovery like those of any other app."""

from __future__ import annotations

from .alerts.failure_mail import notify_admins, notify_admins_of_many
from .operations.bulk import run_bulk_operation

__all__ = ["notify_admins", "notify_admins_of_many", "run_bulk_operation"]
