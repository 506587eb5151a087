"""Imports the ``jobs.py`` of every installed app."""

from __future__ import annotations

import logging
from importlib import import_module

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from . import conf
from .definitions import registry

logger = logging.getLogger("wellos_jobs")

MODULE = "jobs"


def discover() -> None:
    """Import the jobs of all apps but those in ``IGNORED_APPS``.

    An app whose jobs cannot be imported stops no command: the registry notes it, a check warns of
    it, and commands that run jobs or schedules refuse to start.
    """
    skipped = conf.ignored_apps()
    for config in apps.get_app_configs():
        if skipped.isdisjoint({config.name, config.label}):
            _import_jobs(config.name)


def _import_jobs(app: str) -> None:
    try:
        import_module(f"{app}.{MODULE}")
    except Exception as error:
        if not module_has_submodule(import_module(app), MODULE):
            return  # it has no jobs
        registry.note_failed_import(app, error)
        logger.error(
            "the jobs of app %r cannot be imported, and are unknown to this process "
            "(WELLOS_JOBS['IGNORED_APPS'] can leave the app out): %s: %s",
            app,
            type(error).__name__,
            error,
            exc_info=error,
        )
