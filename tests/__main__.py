"""``python -m tests [pytest arguments]``: the suite on SQLite, then what uses a database on
PostgreSQL and MariaDB.

What is not on this machine is skipped and named at the end, loudly.
``WELLOS_REQUIRE=postgres,mariadb,chromium`` names the parts that must not be missing; exit status 1
then, or when a test failed.

The tests start, kill and time real processes, which share the machine with whatever else runs
there. So a few tests that failed are tried once more, alone; those that pass only then are named at
the end, loudly. They are faults, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .support import optional_parts, test_run

FAILED = 1
"""Pytest's exit status when tests failed."""
FEW = 5
"""How many failed tests are tried once more; that many and more have a reason."""
NO_TESTS = 5
"""Pytest's exit status when it ran none, as with ``-k`` for what uses no database."""


@dataclass(frozen=True)
class Part:
    """One optional part of the suite: its name in ``WELLOS_REQUIRE``, its name for people, why it
    is missing."""

    key: str
    title: str
    fault: str | None


@dataclass(frozen=True)
class Result:
    """How a run of pytest ended: its exit status, and the tests that passed at the second try
    only."""

    status: int
    unsteady: list[str]


def main(arguments: list[str]) -> int:
    required = {
        name for name in os.environ.get("WELLOS_REQUIRE", "").replace(" ", "").split(",") if name
    }
    if unknown := required - set(optional_parts.HOW):
        print(
            f"WELLOS_REQUIRE names {', '.join(sorted(unknown))}: it knows {', '.join(optional_parts.HOW)}"
        )
        return 2
    postgres, mariadb, chromium = (
        Part(key, title, optional_parts.FAULTS[key]())
        for key, title in (
            ("postgres", "PostgreSQL"),
            ("mariadb", "MariaDB"),
            ("chromium", "chromium"),
        )
    )
    parts = [postgres, mariadb, *([chromium] if optional_parts.has_browser_tests() else [])]
    missing = [part for part in parts if part.fault]
    lacking = [part for part in missing if part.key in required]
    if lacking:
        _say_missing(lacking, "REQUIRED, BUT MISSING")
        return 1
    results = [("SQLite", _run(arguments, ""))]
    if not postgres.fault:
        results.append(
            (
                "PostgreSQL",
                _run(["--database-tests-only", *arguments], optional_parts.postgres_url()),
            )
        )
    if not mariadb.fault:
        results.append(
            ("MariaDB", _run(["--database-tests-only", *arguments], optional_parts.mariadb_url()))
        )
    _say_missing(missing, "SKIPPED")
    return _summary(results)


def _run(arguments: list[str], server: str) -> Result:
    """Run pytest in a process of its own; ``server`` is the URL of a database server, '' for
    SQLite."""
    name = os.environ.get("WELLOS_TEST_DATABASE", "wellos_jobs")
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("DATABASE_URL", test_run.MARK)
    }
    if server:
        environment["DATABASE_URL"] = f"{server}{name}"
    title = server.partition(":")[0] or "sqlite"
    print(f"\n=== {title} ===", flush=True)
    begun = time.monotonic()
    cache = Path(".pytest_cache") / title
    pytest = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}"]
    command = [
        *pytest,
        "-n",
        str(_processes()),
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        *arguments,
    ]
    status, failed = subprocess.run(command, env=environment).returncode, []
    if status == FAILED and 0 < len(failed := _failed(cache)) < FEW:
        print(f"\n=== {title}: once more, alone: {', '.join(failed)} ===", flush=True)
        status = subprocess.run(
            [*pytest, "-n", "0", "--last-failed", *arguments], env=environment
        ).returncode
    print(f"=== took {time.monotonic() - begun:.0f} s ===", flush=True)
    return Result(status, failed if status == 0 else [])


def _failed(cache: Path) -> list[str]:
    """Return the tests that failed in the run before."""
    noted = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(noted.read_text())) if noted.exists() else []


def _processes() -> int:
    """Most tests wait for something, so a process for each core costs little; many would starve
    those that time."""
    return max(2, min(4, os.cpu_count() or 2))


def _say_missing(parts: list[Part], heading: str) -> None:
    if not parts:
        return
    print(f"\n{'!' * 100}")
    for part in parts:
        print(
            f"!! {heading}: {part.title} ({part.fault})\n!!   To enable it: {optional_parts.HOW[part.key]}."
        )
    print(f"{'!' * 100}")


def _summary(results: list[tuple[str, Result]]) -> int:
    good = {0, NO_TESTS} if results[0][1].status == 0 else {0}
    for title, result in results:
        for test in result.unsteady:
            print(f"!! {title}: {test} FAILED AT THE FIRST TRY, and passed at the second")
    for title, result in results:
        print(
            f"{title:<12} {'ok' if result.status in good else f'FAILED (pytest exit status {result.status})'}"
        )
    return 0 if all(result.status in good for _, result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
