"""Schedules: list, forms, preview of the next runs, actions. Imports only ``ui``."""
