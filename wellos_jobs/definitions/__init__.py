"""What a job is: declared functions, their options and their retry policy.

Pure: no Redis, no database. Imports ``cron``, ``errors`` and ``states`` only. Users import its
    option types from ``wellos_jobs``.
"""
