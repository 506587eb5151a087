"""From ``@job`` and ``enqueue()`` to the row and the push: handles, dependencies, flows, batches, triggers.

Imports ``definitions``, ``payload``, ``broker``, ``signals`` and the models (inside functions: it is imported
before the apps are ready). Users import all of it from ``wellos_jobs``.
"""
