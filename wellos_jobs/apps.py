"""The app: finds the jobs of all installed apps and registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WellosJobsConfig(AppConfig):
    """Loading the app connects to neither Redis nor the database."""

    name = "wellos_jobs"
    verbose_name = _("Background jobs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, discovery  # noqa: F401
        from .views.django_rq_pages import close_django_rq_pages

        discovery.discover()
        close_django_rq_pages()
