"""What worker, supervisor, maintenance and scheduler processes share: fork, shared memory, intervals.

Imports nothing of this app. Users need nothing from here.
"""
