"""Timesheets: projects and time entries."""
