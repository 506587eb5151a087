"""What a job is: declared functions, their options and their retry policy.

Pure: no Redis, no database. Imports only ``cron``, ``errors`` and ``states``. Users import the
types of the options from ``wellos_jobs``.
"""
