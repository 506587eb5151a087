"""From ``@job`` and ``enqueue()`` to the row and its push to Redis.

Imports ``definitions``, ``payload``, ``broker``, ``signals``, ``database`` and, inside functions
because it is imported before the apps are ready, the models. Users import everything from
``wellos_jobs``.
"""
