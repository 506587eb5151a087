"""The packages that each package may import (docs/architecture.md), and other import rules.

Modules are parsed, not imported, so imports inside functions and for type checkers count.
"""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "wellos_jobs"
EXAMPLE = PACKAGE.parent / "example_project"

MAY_IMPORT: dict[str, set[str]] = {
    # words
    "states": set(),
    "errors": set(),
    "conf": {"errors"},
    "signals": {"states"},
    "organizations": {"conf"},
    "version": set(),
    # pure
    "cron": {"errors", "states"},
    "payload": {"conf", "errors"},
    "definitions": {"cron", "errors", "states"},
    "processes": set(),
    # storage
    "broker": {"conf", "payload", "states"},
    "database": {"conf", "errors"},
    "models": {
        "broker",
        "conf",
        "cron",
        "database",
        "definitions",
        "errors",
        "organizations",
        "payload",
        "states",
    },
    "sql": set(),
    "permissions": {"conf", "models", "organizations"},
    "installation": {"broker", "conf", "database", "models"},
    # the path of a job
    "enqueueing": {
        "broker",
        "conf",
        "database",
        "definitions",
        "errors",
        "installation",
        "models",
        # The one exception: JobHandle.explain() imports monitoring.explain when it is called.
        "monitoring",
        "payload",
        "processes",
        "signals",
        "sql",
        "states",
        "status",
    },
    "__init__": {"definitions", "enqueueing", "states", "version"},
    "task_backend": {
        "broker",
        "conf",
        "database",
        "definitions",
        "enqueueing",
        "errors",
        "models",
        "payload",
        "signals",
        "states",
    },
    "ledger": {
        "alerts",
        "broker",
        "database",
        "definitions",
        "enqueueing",
        "models",
        "payload",
        "signals",
        "states",
    },
    "alerts": {
        "broker",
        "conf",
        "database",
        "definitions",
        "enqueueing",
        "models",
        "signals",
        "states",
    },
    "schedules": {
        "broker",
        "conf",
        "installation",
        "cron",
        "database",
        "definitions",
        "enqueueing",
        "errors",
        "models",
        "payload",
        "processes",
        "sql",
        "states",
    },
    "maintenance": {
        "alerts",
        "broker",
        "conf",
        "database",
        "definitions",
        "enqueueing",
        "errors",
        "installation",
        "ledger",
        "models",
        "payload",
        "processes",
        "states",
    },
    "scheduler": {"broker", "conf", "schedules"},
    "worker": {
        "broker",
        "conf",
        "definitions",
        "enqueueing",
        "errors",
        "maintenance",
        "payload",
        "processes",
        "scheduler",
        "schedules",
        "signals",
        "states",
        "version",
    },
    # for people
    "status": {
        "broker",
        "conf",
        "database",
        "definitions",
        "errors",
        "models",
        "payload",
        "states",
    },
    "monitoring": {
        "broker",
        "conf",
        "cron",
        "database",
        "definitions",
        "errors",
        "models",
        "states",
        "status",
        "version",
    },
    "operations": {
        "broker",
        "conf",
        "database",
        "definitions",
        "enqueueing",
        "errors",
        "installation",
        "models",
        "monitoring",
        "payload",
        "schedules",
        "states",
    },
    "views": {
        "permissions",
        "broker",
        "conf",
        "errors",
        "models",
        "monitoring",
        "operations",
        "states",
        "status",
    },
    "contrib": {
        "__init__",
        "conf",
        "cron",
        "database",
        "definitions",
        "errors",
        "maintenance",
        "models",
        "monitoring",
        "organizations",
        "schedules",
        "states",
    },
    "admin": {
        "permissions",
        "broker",
        "conf",
        "contrib",
        "cron",
        "database",
        "definitions",
        "enqueueing",
        "errors",
        "models",
        "monitoring",
        "operations",
        "organizations",
        "payload",
        "schedules",
        "states",
        "status",
        "version",
    },
    "checks": {
        "alerts",
        "broker",
        "conf",
        "database",
        "definitions",
        "errors",
        "models",
        "operations",
    },
    "management": {
        "broker",
        "conf",
        "database",
        "definitions",
        "enqueueing",
        "errors",
        "installation",
        "maintenance",
        "operations",
        "schedules",
        "worker",
    },
    # Django's own places and public faces
    "apps": {"checks", "discovery", "views"},
    "discovery": {"conf", "definitions", "task_backend"},
    "jobs": {"alerts", "operations"},
    "middleware": {"enqueueing"},
    "queues": {"broker"},
    "structured_logs": {"enqueueing"},
    "templatetags": {"admin"},
    "testing": {
        "__init__",
        "broker",
        "database",
        "definitions",
        "enqueueing",
        "errors",
        "ledger",
        "models",
        "payload",
        "processes",
        "schedules",
        "signals",
        "states",
        "task_backend",
        "worker",
    },
    "urls": {"views"},
}
"""For each package or module of ``wellos_jobs``, exactly the others that it imports."""

ADMIN_MAY_IMPORT: dict[str, set[str]] = {
    "ui": set(),
    "flows_and_batches": {"ui"},
    "schedules": {"ui"},
    "jobs": {"flows_and_batches", "ui"},
    "dashboard": {"flows_and_batches", "ui"},
    "dead_letters": {"jobs", "ui"},
    "audit": {"jobs", "ui"},
    "__init__": {
        "audit",
        "dashboard",
        "dead_letters",
        "flows_and_batches",
        "jobs",
        "schedules",
    },
}
"""Each sub-package of ``wellos_jobs.admin``, and what of the admin it may import."""

TALK_TO_REDIS = {"broker", "enqueueing", "maintenance", "schedules", "scheduler", "worker"}
"""Packages that may import rq, redis, django_rq and the like."""

REDIS_LIBRARIES = {"rq", "redis", "django_rq", "django_redis", "rq_scheduler"}

MISCELLANY = {"utils", "helpers", "services", "common", "misc"}

PUBLIC = {
    "Batch",
    "Flow",
    "CircuitBreaker",
    "Concurrency",
    "RateLimit",
    "Unique",
    "CurrentJob",
    "Discard",
    "Job",
    "JobHandle",
    "JobOptions",
    "JobQueue",
    "JobState",
    "Priority",
    "Retry",
    "RetryPolicy",
    "Snooze",
    "current_job",
    "enqueue",
    "enqueue_bulk",
    "enqueue_on",
    "exponential",
    "fixed",
    "job",
    "report_progress",
}


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "migrations" not in path.parts]


def dotted(path: Path) -> tuple[str, ...]:
    """Return a module's parts below the package; its own ``__init__`` is called that."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts


def package_of(parts: tuple[str, ...]) -> str:
    return parts[0]


def imports(path: Path, package: tuple[str, ...] = ()) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) for each imported name.

    ``package`` is the package of the module; by default it is derived from the path.
    """
    package = package or ("wellos_jobs", *path.relative_to(PACKAGE).parent.parts)
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def own_imports(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield each (line, module below the package) of the package itself that a module imports."""
    for line, name in imports(path):
        first, *rest = name.split(".")
        if first != "wellos_jobs":
            continue
        while rest and not (
            PACKAGE.joinpath(*rest).with_suffix(".py").exists() or PACKAGE.joinpath(*rest).is_dir()
        ):
            rest.pop()  # a name in a module
        yield line, tuple(rest) or ("__init__",)


def test_packages_import_only_what_they_may() -> None:
    found: dict[str, set[str]] = {}
    faults = []
    for path in modules():
        here = package_of(dotted(path))
        for line, target in own_imports(path):
            there = package_of(target)
            if there != here:
                found.setdefault(here, set()).add(there)
            if there not in {here, *MAY_IMPORT.get(here, ())}:
                faults.append(
                    f"{path}:{line}: {here} must not import {there} (see MAY_IMPORT in {__file__})"
                )
    assert not faults, "\n".join(faults)
    unused = {here: may - found.get(here, set()) for here, may in MAY_IMPORT.items()}
    assert not {here: names for here, names in unused.items() if names}, (
        "MAY_IMPORT allows unused imports"
    )


def test_admin_subpackages_import_what_they_may() -> None:
    found: dict[str, set[str]] = {here: set() for here in ADMIN_MAY_IMPORT}
    for path in modules():
        package, *parts = dotted(path)
        if package != "admin":
            continue
        here = parts[0] if parts else "__init__"
        for _line, target in own_imports(path):
            if target[0] == "admin" and len(target) > 1 and target[1] != here:
                found.setdefault(here, set()).add(target[1])

    assert found == ADMIN_MAY_IMPORT
    graphlib.TopologicalSorter(found).prepare()  # raises CycleError


def test_imports_have_no_cycles() -> None:
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for path in modules():
        here = dotted(path)
        graph[here] = {target for _, target in own_imports(path) if target != here}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_imports_of_the_example_have_no_cycles() -> None:
    graph = {}
    for path in sorted(EXAMPLE.rglob("*.py")):
        here = ".".join(path.relative_to(EXAMPLE.parent).with_suffix("").parts)
        graph[here] = set(example_imports(path)) - {here}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def example_imports(path: Path) -> Iterator[str]:
    """Yield the modules of the example that a module imports, including those for type checkers."""
    package = path.relative_to(EXAMPLE.parent).parent.parts
    for _, name in imports(path, package):
        parts = name.split(".")
        while parts and not EXAMPLE.parent.joinpath(*parts).with_suffix(".py").exists():
            parts.pop()  # a name in a module
        if parts and parts[0] == EXAMPLE.name:
            yield ".".join(parts)


def test_only_conf_reads_the_settings() -> None:
    faults = [
        f"{path}:{line}: {name}: ask wellos_jobs.conf instead"
        for path in modules()
        for line, name in imports(path)
        if dotted(path) != ("conf",) and f"{name}.".startswith("django.conf.settings.")
    ]
    assert not faults, "\n".join(faults)


def test_few_packages_import_the_redis_libraries() -> None:
    faults = [
        f"{path}:{line}: {name} in {here}"
        for path in modules()
        if (here := package_of(dotted(path))) not in TALK_TO_REDIS
        for line, name in imports(path)
        if name.partition(".")[0] in REDIS_LIBRARIES
        and dotted(path) != ("views", "django_rq_pages")
    ]
    assert not faults, "\n".join(faults)


def test_nothing_imports_test_code() -> None:
    faults = [
        f"{path}:{line}: {name}"
        for path in modules()
        for line, name in imports(path)
        if name.startswith(("wellos_jobs.testing", "tests", "example_project"))
        and package_of(dotted(path)) != "testing"
    ]
    assert not faults, "\n".join(faults)


def test_no_module_has_a_catch_all_name() -> None:
    assert not [path for path in PACKAGE.rglob("*.py") if path.stem in MISCELLANY]


def test_the_public_names_are_pinned() -> None:
    import wellos_jobs

    assert set(wellos_jobs.__all__) == PUBLIC


def test_the_public_names_can_be_imported_before_the_apps_are_ready() -> None:
    script = """
import wellos_jobs
from django.apps import apps
for name in wellos_jobs.__all__:
    getattr(wellos_jobs, name)
assert not apps.ready
assert "wellos_jobs.models" not in __import__("sys").modules
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(
        command, cwd=PACKAGE.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
