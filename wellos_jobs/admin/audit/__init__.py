"""Audit log with CSV export, and bulk operations. Imports ``jobs`` and ``ui``."""
