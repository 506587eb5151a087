"""Schedules: the list, forms, preview of the next runs, and actions."""
