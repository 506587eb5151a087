"""An app whose ``jobs.py`` cannot be imported: it is named, and stops only what would need it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wellos_jobs import conf, discovery
from wellos_jobs.checks import jobs as checks
from wellos_jobs.definitions import registry
from wellos_jobs.errors import UnknownJob
from wellos_jobs.monitoring import health_checks

from ..support.processes import Fleet

CAUSE = "No module named 'not_installed_here'"
BROKEN = """
from wellos_jobs import job

@job("third-party-first")
def first() -> None: ...

import not_installed_here
"""


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed app that declares one job and then fails."""
    package = tmp_path / "thirdparty"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "jobs.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "thirdparty"]:
        del sys.modules[name]


@pytest.fixture
def discovered(third_party: Path, settings: Any) -> Iterator[None]:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "thirdparty"]
    with registry.isolated():
        registry._failed_imports.clear()
        discovery.discover()
        yield
    registry._failed_imports.clear()


def test_the_app_is_named_and_the_other_jobs_are_known(
    discovered: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert registry.failed_imports() == {"thirdparty": f"ModuleNotFoundError: {CAUSE}"}
    assert registry.find("test-noop")


def test_checks_and_health_name_it(discovered: None) -> None:
    (warning,) = checks.check_imports()
    (error,) = checks.check_imports_before_deployment()
    assert (warning.id, error.id) == ("wellos_jobs.W006", "wellos_jobs.E102")
    assert "thirdparty" in warning.msg
    assert CAUSE in error.msg

    check = health_checks.imports(registry.failed_imports())
    assert (check.where, check.status.value) == ("thirdparty", "critical")
    assert health_checks.imports({}).status.value == "ok"


def test_an_unknown_job_is_explained_by_it(discovered: None) -> None:
    with pytest.raises(UnknownJob, match=f"'thirdparty' cannot be imported.*{CAUSE}"):
        registry.get("third-party-second")


@pytest.mark.usefixtures("discovered")
def test_an_app_can_be_left_out(settings: Any) -> None:
    registry._failed_imports.clear()
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "IGNORED_APPS": ["thirdparty"]}

    discovery.discover()

    assert registry.failed_imports() == {}
    assert conf.current().ignored_apps == {"thirdparty"}


def test_an_app_that_is_not_installed_cannot_be_left_out(settings: Any) -> None:
    settings.WELLOS_JOBS = {"IGNORED_APPS": ["thridparty"]}
    (message,) = checks.check_settings()
    assert "no app 'thridparty' is installed" in message.msg
    assert conf.ignored_apps() == frozenset()


# --- real commands --------------------------------------------------------------------------------

SETTINGS = """
from tests.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "thirdparty"]
"""


def test_commands_that_need_no_jobs_go_on_and_those_that_do_refuse(
    processes: Fleet, third_party: Path
) -> None:
    (third_party / "with_thirdparty.py").write_text(SETTINGS)
    processes.environment = {
        "DJANGO_SETTINGS_MODULE": "with_thirdparty",
        "PYTHONPATH": str(third_party),
    }
    started = {
        command: processes.manage(*command.split())
        for command in ("check", "migrate --plan", "rqworker --burst", "rqscheduler", "jobs_sync")
    }

    for command, process in started.items():
        status = process.wait(60)
        output = process.output()
        needs_jobs = command.split()[0] not in ("check", "migrate")
        assert status == int(needs_jobs), output
        assert "thirdparty" in output
        assert CAUSE in output
        assert ("CommandError: The jobs of these apps cannot be imported" in output) == needs_jobs
