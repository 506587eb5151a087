"""``rqworker``: claim, run and settle jobs; and the supervisor that keeps workers alive.

Imports ``broker``, ``payload``, ``definitions``, ``processes``, ``signals``, the job context of
``enqueueing`` and, to fork them, ``maintenance`` and ``schedules``. Never ``monitoring``,
``operations`` or ``admin``. Users start it with ``manage.py rqworker``.
"""
