"""HTTP endpoints for one job (status, event stream, cancel) and for health probes.

Imports ``monitoring``, ``operations`` and the models. Users include ``wellos_jobs.urls``.
"""
