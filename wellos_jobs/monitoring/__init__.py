"""Read-only queries for people and probes: queues, workers, limits, health, trends, explain().

Imports ``broker`` and the models; it never changes anything. Users reach it through the admin,
``wellos_jobs.status`` and the URLs.
"""
