"""The floors of the package (docs/architecture.md): imports go downward only, and a few borders are closed.

All modules are read as syntax, so imports inside functions count, and those for type checkers count for the floors.
"""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "wellos_jobs"

FLOORS = {
    "words": ["states", "errors", "conf", "ids", "tracing"],
    "pure policies": [
        "retry",
        "registry",
        "encryption",
        "payload",
        "masking",
        "masked_logs",
        "run_log",
        "tags",
        "values",
        "csv_text",
        "zones",
        "cron_fields",
        "cron_text",
        "cron_lines",
        "cron",
        "timing",
        "guards",
        "fingerprint",
    ],
    "storage": ["keys", "rq_surface", "redis", "events", "models", "inserts", "commits", "alarm", "databases"],
    "engine": [
        "signals",
        "context",
        "structured_logs",
        "lanes",
        "queues",
        "handles",
        "admission",
        "enqueue",
        "declare",
        "claims",
        "progress",
        "timeouts",
        "execution",
        "faults",
        "foreign_calls",
        "declarations",
        "schedules",
        "uniqueness",
        "explain",
        "circles",
        "blocking",
        "batches",
        "flows",
        "replacing",
        "triggers",
        "__init__",
    ],
    "readers": [
        "statistics",
        "alike",
        "timeline",
        "triage",
        "notices",
        "folding",
        "ledger",
        "status",
        "overview",
        "groups",
        "workforce",
        "limit_board",
        "trends",
        "past_runs",
        "probes",
        "verdicts",
        "health",
        "watches",
        "live",
    ],
    "processes": [
        "rota",
        "slots",
        "children",
        "queue_sets",
        "registration",
        "presence",
        "foreign",
        "worker",
        "relay",
        "reinstating",
        "prune",
        "bookkeeper",
        "alerts",
        "backlog",
        "ticks",
        "entries",
        "clock",
        "scheduler",
        "aides",
        "rq_commands",
        "logs",
        "supervision",
        "housekeeping",
        "supervisor",
    ],
    "doors": [
        "acts",
        "amendments",
        "queue_operations",
        "worker_operations",
        "revival",
        "flow_operations",
        "schedule_operations",
        "operations",
        "rotation",
        "bulk",
        "views",
        "health_views",
        "urls",
        "admin",
        "templatetags",
        "middleware",
        "management",
        "checks",
        "contrib",
        "apps",
        "jobs",
    ],
}
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS.values()) for room in rooms}
NAMES = list(FLOORS)

TALK_TO_REDIS = {"storage", "engine", "processes"}
"""The floors that may import rq, redis, django_rq and the like."""

REDIS_LIBRARIES = {"rq", "redis", "django_rq", "django_redis", "rq_scheduler"}

NOT_FOR_PROCESSES = {"status", "health", "metrics", "overview"}
"""Readers for people: a worker must not wait for what they need."""

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


def room(parts: tuple[str, ...]) -> str:
    return parts[0]


def imports(path: Path, *, for_types: bool = True) -> Iterator[tuple[int, str]]:
    """Yield each (line, absolute dotted name) that a module imports, one for each name of a ``from`` import.

    ``for_types`` says whether those under ``if TYPE_CHECKING:`` count.
    """
    package = ("wellos_jobs", *path.relative_to(PACKAGE).parent.parts)
    tree = ast.parse(path.read_text())
    if not for_types:
        tree.body = [node for node in tree.body if not is_for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def own_imports(path: Path, *, for_types: bool = True) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield each (line, module below the package) of the package itself that a module imports."""
    for line, name in imports(path, for_types=for_types):
        first, *rest = name.split(".")
        if first != "wellos_jobs":
            continue
        while rest and not (PACKAGE.joinpath(*rest).with_suffix(".py").exists() or PACKAGE.joinpath(*rest).is_dir()):
            rest.pop()  # a name in a module
        yield line, tuple(rest) or ("__init__",)


def test_each_room_has_a_floor() -> None:
    homeless = {room(dotted(path)) for path in modules()} - set(FLOOR_OF)
    assert not homeless, f"add {', '.join(sorted(homeless))} to FLOORS in {__file__}, and to docs/architecture.md"


def test_imports_go_downward() -> None:
    faults = []
    for path in modules():
        here = room(dotted(path))
        for line, target in own_imports(path):
            if FLOOR_OF.get(room(target), 0) > FLOOR_OF.get(here, 0):
                faults.append(
                    f"{path}:{line}: {here} ({NAMES[FLOOR_OF[here]]}) must not import "
                    f"{room(target)} ({NAMES[FLOOR_OF[room(target)]]}), which is above it"
                )
    assert not faults, "\n".join(faults)


def test_imports_have_no_circles() -> None:
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for path in modules():
        here = dotted(path)
        graph[here] = {target for _, target in own_imports(path, for_types=False) if target != here}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_only_conf_reads_the_settings() -> None:
    faults = [
        f"{path}:{line}: {name}: ask wellos_jobs.conf instead"
        for path in modules()
        for line, name in imports(path)
        if dotted(path) != ("conf",) and f"{name}.".startswith("django.conf.settings.")
    ]
    assert not faults, "\n".join(faults)


def test_only_storage_engine_and_processes_know_the_redis_libraries() -> None:
    faults = [
        f"{path}:{line}: {name} on the floor {floor!r}"
        for path in modules()
        if (floor := NAMES[FLOOR_OF.get(room(dotted(path)), 0)]) not in TALK_TO_REDIS
        for line, name in imports(path)
        if name.partition(".")[0] in REDIS_LIBRARIES and dotted(path) != ("admin", "rq_pages")  # about their pages
    ]
    assert not faults, "\n".join(faults)


def test_processes_do_without_the_readers_for_people() -> None:
    faults = [
        f"{path}:{line}: {'.'.join(target)}"
        for path in modules()
        if room(dotted(path)) in FLOORS["processes"]
        for line, target in own_imports(path)
        if room(target) in NOT_FOR_PROCESSES
    ]
    assert not faults, "\n".join(faults)


def test_nothing_imports_what_is_for_tests() -> None:
    faults = [
        f"{path}:{line}: {name}"
        for path in modules()
        for line, name in imports(path)
        if name.startswith(("wellos_jobs.testing", "tests", "example_project")) and room(dotted(path)) != "testing"
    ]
    assert not faults, "\n".join(faults)


def test_each_module_is_named_after_a_thing() -> None:
    assert not [path for path in PACKAGE.rglob("*") if path.stem in MISCELLANY]


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
    done = subprocess.run(command, cwd=PACKAGE.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
