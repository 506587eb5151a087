"""The app of the ready job types: its jobs and its mail templates."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ContribConfig(AppConfig):
    """Has no models: it brings jobs, found through its ``jobs`` module, and templates."""

    name = "wellos_jobs.contrib"
    label = "wellos_jobs_contrib"
    verbose_name = _("Ready job types")
