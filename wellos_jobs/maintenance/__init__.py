"""The leader's loops: relay, rebuild, drain, prune, backlog alerts; and the rotation of encryption keys.

Imports ``ledger``, ``enqueueing``, ``broker`` and the models. Users need nothing from here.
"""
