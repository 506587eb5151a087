"""A task of ``django.tasks``: it is a job like the others."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings

from wellos_jobs.task_backend import task


@task(queue_name="cleanup", priority=-10)
def clear_sessions() -> int:
    """Delete expired sessions, as ``manage.py clearsessions`` does; return how many are left."""
    store = import_module(settings.SESSION_ENGINE).SessionStore
    store.clear_expired()
    return int(store.get_model_class().objects.count())
