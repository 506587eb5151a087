"""This app's own jobs, found as those of any installed app are."""

from __future__ import annotations

from .bulk import run_bulk_operation
from .notices import notify_admins

__all__ = ["notify_admins", "run_bulk_operation"]
