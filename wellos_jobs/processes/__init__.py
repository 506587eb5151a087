"""Shared by worker, supervisor, maintenance and scheduler: fork, shared memory, timers, pauses.

Imports nothing of this app. Users need nothing from here.
"""
