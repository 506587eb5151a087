"""System checks of the backend's entry in ``TASKS``, and what is found at start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.checks import run_checks
from django.test import override_settings

from wellos_jobs import discovery
from wellos_jobs.checks.tasks import check_tasks_app
from wellos_jobs.definitions import registry
from wellos_jobs.errors import UnknownJob

pytestmark = pytest.mark.django_db(databases=["default", "other"])

OURS = "wellos_jobs.task_backend.JobsBackend"


def found(**entry: Any) -> list[tuple[str, str]]:
    """Return the faults of an entry of TASKS, as Django's checks report them."""
    with override_settings(TASKS={"default": {"BACKEND": OURS, **entry}}):
        return [(fault.id, fault.msg) for fault in run_checks() if "TASKS" in fault.msg]


def test_a_good_entry() -> None:
    assert found(QUEUES=["default", "tasks"], OPTIONS={"max_attempts": 2, "modules": []}) == []


def test_an_unknown_queue() -> None:
    ((fault, text),) = found(QUEUES=["default", "taskz"])
    assert fault == "wellos_jobs.E016"
    assert "'taskz'" in text and "did you mean 'tasks'" in text


def test_an_unknown_option() -> None:
    ((fault, text),) = found(OPTIONS={"max_attempt": 2})
    assert fault == "wellos_jobs.E017"
    assert "did you mean 'max_attempts'" in text


@pytest.mark.skipif(django.VERSION >= (6, 0), reason="Django has tasks of its own")
def test_the_app_of_the_backport_is_missing(settings: Any) -> None:
    assert check_tasks_app() == []
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_tasks"]
    assert [fault.id for fault in check_tasks_app()] == ["wellos_jobs.E018"]


def test_without_djangos_tasks_the_fix_is_named() -> None:
    script = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: (
    None if name in ("django.tasks", "django_tasks") else real(name, *more)
)
import wellos_jobs.task_backend
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "ImportError: wellos_jobs.task_backend needs Django's Tasks" in done.stderr
    assert "pip install 'wellos_jobs[tasks]'" in done.stderr


# --- discovery ------------------------------------------------------------------------------------

TASK = """
from wellos_jobs.task_backend import task

@task
def {name}() -> None: ...
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed app with a package of tasks, and tasks elsewhere."""
    package = tmp_path / "taskful"
    (package / "tasks").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "tasks" / "__init__.py").write_text(TASK.format(name="first"))
    (package / "tasks" / "more.py").write_text(TASK.format(name="second"))
    (package / "elsewhere.py").write_text(TASK.format(name="third"))
    monkeypatch.syspath_prepend(str(tmp_path))
    with registry.isolated():
        yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "taskful"]:
        del sys.modules[name]


def test_tasks_of_apps_and_of_named_modules_are_found(app: Path, settings: Any) -> None:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "taskful"]
    settings.TASKS = {"default": {"BACKEND": OURS, "OPTIONS": {"modules": ["taskful.elsewhere"]}}}
    discovery.discover()
    names = {job.name for job in registry.all_jobs() if job.name.startswith("taskful")}
    assert names == {
        "taskful.tasks.first",
        "taskful.tasks.more.second",
        "taskful.elsewhere.third",
    }


def test_no_module_is_imported_because_a_job_names_it(app: Path) -> None:
    with pytest.raises(UnknownJob, match=r"taskful\.elsewhere\.third"):
        registry.get("taskful.elsewhere.third")
    assert "taskful.elsewhere" not in sys.modules


def test_tasks_are_left_alone_where_no_backend_is_ours(app: Path, settings: Any) -> None:
    from wellos_jobs.task_backend.framework import BaseTaskBackend

    immediate = BaseTaskBackend.__module__.replace(".base", ".immediate.ImmediateBackend")
    settings.TASKS = {"default": {"BACKEND": immediate}}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "taskful"]
    discovery.discover()
    assert "taskful.tasks" not in sys.modules


def test_a_module_that_cannot_be_imported_is_named(app: Path, settings: Any) -> None:
    (app / "tasks" / "more.py").write_text("import not_installed_here")
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "taskful"]
    discovery.discover()
    assert "not_installed_here" in registry.failed_imports()["taskful"]
