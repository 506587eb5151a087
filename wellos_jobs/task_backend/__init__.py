"""A backend for Django's Tasks: ``TASKS = {"default": {"BACKEND":
"wellos_jobs.task_backend.JobsBackend"}}``.

Needs Django 6.0 or later, or the package django-tasks on Django 5.2.
"""

from __future__ import annotations

from .backend import JobsBackend
from .job_task import JobTask, task

__all__ = ["JobTask", "JobsBackend", "task"]
