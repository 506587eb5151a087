"""The leader's maintenance loops: drain, relay, rebuild, prune, backlog alerts; and key rotation.

Imports ``ledger``, ``enqueueing``, ``broker`` and the models. Users import nothing from here.
"""
