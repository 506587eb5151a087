"""Django's Tasks: ``django.tasks`` of Django 6.0 and later, the package ``django-tasks`` on 5.2.

The two have the same shape. All other modules take the names from here.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.tasks import TaskContext, TaskResultStatus, task_backends
    from django.tasks import task as declare
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError, TaskResult
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
    from django.tasks.signals import task_enqueued, task_finished, task_started

    AnyTask = Task[..., Any]
    AnyResult = TaskResult[..., Any]

    def normalize_json(value: Any) -> Any: ...

elif find_spec("django.tasks"):
    from django.tasks import TaskContext, TaskResultStatus, task_backends
    from django.tasks import task as declare
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError, TaskResult
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json

    AnyTask, AnyResult = Task, TaskResult

elif find_spec("django_tasks"):
    from django_tasks import TaskContext, TaskResultStatus, task_backends
    from django_tasks import task as declare
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import Task, TaskError, TaskResult
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
    from django_tasks.signals import task_enqueued, task_finished, task_started
    from django_tasks.utils import normalize_json

    AnyTask, AnyResult = Task, TaskResult

else:
    raise ImportError(
        "wellos_jobs.task_backend needs Django's Tasks, which Django has from 6.0 on: on Django "
        "5.2 install the package django-tasks (pip install 'wellos_jobs[tasks]') and add "
        "'django_tasks' to INSTALLED_APPS"
    )

__all__ = [
    "AnyResult",
    "AnyTask",
    "BaseTaskBackend",
    "InvalidTask",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultMismatch",
    "TaskResultStatus",
    "declare",
    "normalize_json",
    "sender_of",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]


def sender_of(result: AnyResult) -> type:
    """Return the sender of a result's signals: the class of its backend."""
    known = result.backend in task_backends.settings
    return type(task_backends[result.backend]) if known else BaseTaskBackend
