"""Folds the event stream of Redis into rows: jobs, attempts, dead letters, statistics, failure mail.

Imports ``broker``, ``payload``, ``enqueueing`` and the models. Users need nothing from here.
"""
