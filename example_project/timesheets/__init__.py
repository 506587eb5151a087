"""Timesheets: projects, and the time worked on them."""
