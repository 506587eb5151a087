"""``python -m tests [fast | all] [pytest arguments]``: the suite.

- ``fast``: unit tests, on SQLite.
- without a word: unit tests, processes and browser, on SQLite. A change is judged by these.
- ``all``: these and the ``system`` tests, and on PostgreSQL and MariaDB what uses a database.

What is not on this machine is skipped and named at the end, loudly.
``WELLOS_REQUIRE=postgres,mariadb,chromium`` names the parts that must not be missing; exit status 1
then, or when a test failed. A test that fails once has failed: none is tried again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .support import optional_parts, test_run

NO_TESTS = 5
"""Pytest's exit status when it ran none, as with ``-k`` for what uses no database."""

TIERS = {"fast": "unit", "": "not system", "all": ""}
"""What each word selects, as pytest's ``-m`` takes it."""


@dataclass(frozen=True)
class Part:
    """One optional part: its key in ``WELLOS_REQUIRE``, its name for people, why it is missing."""

    key: str
    title: str
    fault: str | None


def main(arguments: list[str]) -> int:
    tier = arguments.pop(0) if arguments and arguments[0] in TIERS else ""
    required = set(os.environ.get("WELLOS_REQUIRE", "").replace(",", " ").split())
    if unknown := required - set(optional_parts.HOW):
        known = ", ".join(optional_parts.HOW)
        print(f"WELLOS_REQUIRE names {', '.join(sorted(unknown))}: it knows {known}")
        return 2

    missing = [part for part in _parts(tier) if part.fault]
    lacking = [part for part in missing if part.key in required]
    if lacking:
        _print_missing(lacking, "REQUIRED, BUT MISSING")
        return 1

    results = _run_all(tier, arguments, {part.key for part in missing})
    _print_missing(missing, "SKIPPED")
    return _summary(results)


def _parts(tier: str) -> list[Part]:
    """Return the optional parts that a tier uses."""
    used = {"fast": [], "": ["chromium"], "all": ["chromium", "postgres", "mariadb"]}[tier]
    titles = {"chromium": "chromium", "postgres": "PostgreSQL", "mariadb": "MariaDB"}
    return [Part(key, titles[key], optional_parts.FAULTS[key]()) for key in used]


def _run_all(tier: str, arguments: list[str], missing: set[str]) -> list[tuple[str, int]]:
    """Run pytest on each database in turn; return (database, exit status)."""
    if TIERS[tier]:
        arguments = ["-m", TIERS[tier], *arguments]
    results = [("SQLite", _run(arguments, ""))]
    if tier != "all":
        return results

    with_database = ["--database-tests-only", *arguments]
    if "postgres" not in missing:
        results.append(("PostgreSQL", _run(with_database, optional_parts.postgres_url())))
    if "mariadb" not in missing:
        results.append(("MariaDB", _run(with_database, optional_parts.mariadb_url())))
    return results


def _run(arguments: list[str], server: str) -> int:
    """Run pytest in a process of its own and return its exit status.

    ``server`` is the URL of a database server, '' for SQLite.
    """
    title = server.partition(":")[0] or "sqlite"
    print(f"\n=== {title} ===", flush=True)
    begun = time.monotonic()
    command = [
        *(sys.executable, "-m", "pytest"),
        *("-o", f"cache_dir={Path('.pytest_cache') / title}"),
        *("-n", str(_processes()), "--dist", "loadfile", "--no-loadscope-reorder"),
        *arguments,
    ]

    status = subprocess.run(command, env=_environment(server)).returncode

    print(f"=== took {time.monotonic() - begun:.0f} s ===", flush=True)
    return status


def _environment(server: str) -> dict[str, str]:
    # The tests start hundreds of Python processes: each would compile the package anew.
    unwanted = ("DATABASE_URL", test_run.MARK, "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if key not in unwanted}
    if server:
        name = os.environ.get("WELLOS_TEST_DATABASE", "wellos_jobs")
        environment["DATABASE_URL"] = f"{server}{name}"
    return environment


def _processes() -> int:
    """Return how many processes run tests: half of the time tests wait, so more than cores."""
    return min(8, (os.cpu_count() or 2) + 2)


def _print_missing(parts: list[Part], heading: str) -> None:
    if not parts:
        return
    print(f"\n{'!' * 100}")
    for part in parts:
        print(f"!! {heading}: {part.title} ({part.fault})")
        print(f"!!   To enable it: {optional_parts.HOW[part.key]}.")
    print(f"{'!' * 100}")


def _summary(results: list[tuple[str, int]]) -> int:
    print()
    good = {0, NO_TESTS} if results[0][1] == 0 else {0}
    for title, status in results:
        answer = "ok" if status in good else f"FAILED (pytest exit status {status})"
        print(f"{title:<12} {answer}")
    return 0 if all(status in good for _, status in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
