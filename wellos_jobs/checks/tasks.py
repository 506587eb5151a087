"""Check of Django's Tasks: E018. The backend itself checks its options (E016, E017)."""

from __future__ import annotations

from typing import Any

import django
from django.apps import apps
from django.core.checks import CheckMessage, Error, register

from .. import conf

BACKEND = "wellos_jobs.task_backend."


@register
def check_tasks_app(**_: Any) -> list[CheckMessage]:
    """On Django 5.2 only an installed app makes ``TASKS`` count."""
    named = [str(entry.get("BACKEND", "")) for entry in conf.task_backends().values()]
    if django.VERSION >= (6, 0) or not any(path.startswith(BACKEND) for path in named):
        return []
    if apps.is_installed("django_tasks"):
        return []
    return [
        Error(
            "TASKS names wellos_jobs.task_backend, but on Django 5.2 tasks come from the package "
            "django-tasks, and 'django_tasks' is not in INSTALLED_APPS.",
            hint="pip install 'wellos_jobs[tasks]', and add 'django_tasks' to INSTALLED_APPS.",
            id="wellos_jobs.E018",
        )
    ]
