"""Applies the event stream of Redis to the rows: jobs, attempts, dead letters, statistics, mail.

Imports ``broker``, ``payload``, ``enqueueing`` and the models. Users import nothing from here.
"""
