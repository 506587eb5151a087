"""Ready-made jobs: emails, notifications, reports, files, cleanup.

Users add ``"wellos_jobs.contrib"`` to ``INSTALLED_APPS`` and import from ``cleanup``, ``emails``,
``files``, ``mailings``, ``notifications``, ``orphans``, ``reports`` and ``tasks``. Apart from
``admin``, which reads ``report_types``, nothing in ``wellos_jobs`` imports this package.
"""
