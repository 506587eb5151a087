"""Imports the ready-made jobs, because workers look for jobs in each app's ``jobs`` module."""

from . import cleanup, emails, notifications, organization_reports, orphans, reports

__all__ = ["cleanup", "emails", "notifications", "organization_reports", "orphans", "reports"]
