"""The Django app of the ready-made jobs."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ContribConfig(AppConfig):
    """Provides jobs, through the ``jobs`` module, and email templates. It has no models."""

    name = "wellos_jobs.contrib"
    label = "wellos_jobs_contrib"
    verbose_name = _("Ready job types")
