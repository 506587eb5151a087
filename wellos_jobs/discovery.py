"""Imports the ``jobs.py`` of every installed app, and the ``tasks.py`` if a backend runs tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from . import conf
from .definitions import registry

logger = logging.getLogger("wellos_jobs")

MODULE = "jobs"


def discover() -> None:
    """Import the jobs and tasks of all apps but those in ``IGNORED_APPS``.

    An app whose jobs cannot be imported stops no command: the registry notes it, a check warns of
    it, and commands that run jobs or schedules refuse to start.
    """
    for app in _apps():
        _import(app, MODULE)
    if conf.has_tasks():
        _discover_tasks()


def _apps() -> Iterator[str]:
    skipped = conf.ignored_apps()
    for config in apps.get_app_configs():
        if skipped.isdisjoint({config.name, config.label}):
            yield config.name


def _discover_tasks() -> None:
    from .task_backend import discovery

    if not discovery.backends():
        return

    found = [(app, discovery.MODULE) for app in _apps()]
    found += [(name, "") for name in discovery.further_modules()]
    for package, name in found:
        module = _import(package, name)
        if module is not None:
            try:
                discovery.declare_all(module)
            except Exception as error:
                _note(package, error)


def _import(app: str, name: str) -> ModuleType | None:
    """Import a module of an app, or the app itself for an empty name; None if that fails."""
    try:
        return import_module(f"{app}.{name}" if name else app)
    except Exception as error:
        if not name or module_has_submodule(import_module(app), name):
            _note(app, error)
        return None


def _note(app: str, error: Exception) -> None:
    registry.note_failed_import(app, error)
    logger.error(
        "the jobs of app %r cannot be imported, and are unknown to this process "
        "(WELLOS_JOBS['IGNORED_APPS'] can leave the app out): %s: %s",
        app,
        type(error).__name__,
        error,
        exc_info=error,
    )
