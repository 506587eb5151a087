"""Read-only questions that people and probes ask: queues, workers, limits, health, trends, "why is it waiting?".

Reads Redis and the models; changes nothing. Users reach it through the admin,
``wellos_jobs.status`` and the URLs.
"""
