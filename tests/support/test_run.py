"""What a test run and the processes it starts agree on: one Redis, two databases, one folder.

The run that makes the bed marks it in the environment (``WELLOS_TEST_BED``, the path of the
folder); processes that inherit the mark use its ``REDIS_URL``, ``DATABASE_URL`` and
``OTHER_DATABASE_URL``. Without the mark these may be anybody's: then ``REDIS_URL`` is never used
(tests empty their Redis), and ``DATABASE_URL`` says only on which server to create test databases.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from example_project import database

MARK = "WELLOS_TEST_BED"
_at_start: dict[str, str] = {}
ALIASES = {"default": "DATABASE_URL", "other": "OTHER_DATABASE_URL"}


def is_made() -> bool:
    """Whether this process was started in a test bed. Each worker of pytest-xdist makes a bed
    of its own."""
    return Path(os.environ.get(MARK, "")).name.startswith(_prefix())


def make() -> Path:
    """Make the bed: a folder and a Redis server. ``clear`` ends both."""
    from . import servers
    from .process_reaper import undertaker

    folder = tempfile.mkdtemp(prefix=_prefix())
    undertaker().remove(folder)
    os.environ[MARK] = folder
    os.environ["REDIS_URL"] = servers.shared(Path(folder, "redis")).url
    _at_start.update(os.environ)
    return Path(folder)


def at_start() -> dict[str, str]:
    """Return the environment as it was before the first test."""
    return dict(_at_start)


def clear() -> None:
    """End what ``make`` made."""
    from . import servers

    servers.stop_shared()
    shutil.rmtree(folder(), ignore_errors=True)


def folder() -> Path:
    """Return the folder for databases, mails and logs."""
    return Path(os.environ[MARK])


def databases(*, for_child: bool) -> dict[str, Any]:
    """Return Django's ``DATABASES``: ``default`` and ``other``, two databases on one server (SQLite
    by default)."""
    if for_child and ALIASES["other"] in os.environ:
        return {alias: _given_database(os.environ[variable]) for alias, variable in ALIASES.items()}
    return {alias: _test_database(alias) for alias in ALIASES}


def _given_database(url: str) -> dict[str, Any]:
    entry = database.from_url(url)
    patience = dict(parse_qsl(urlsplit(url).query)).get("timeout")
    if patience and entry["ENGINE"] == database.ENGINES["sqlite"]:
        entry["OPTIONS"]["timeout"] = float(patience)
    return entry


def _test_database(alias: str) -> dict[str, Any]:
    url = os.environ.get("DATABASE_URL")
    if not url or url.startswith("sqlite:"):
        path = folder() / f"{alias}.sqlite3"
        return {
            **database.sqlite(path),
            "TEST": {"NAME": str(path)},
        }  # a file: child processes read it, too
    entry = database.from_url(url)
    base = entry["NAME"] or "wellos_jobs"
    suffix = "" if alias == "default" else f"_{alias}"
    return {**entry, "TEST": {"NAME": f"test_{base}_{os.getpid()}{suffix}"}}


def child_environment(inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables of a process that is to use the databases of the running
    test."""
    from django.db import connections

    urls = {variable: _url(connections[alias].settings_dict) for alias, variable in ALIASES.items()}
    return {
        **inherited,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONUNBUFFERED": "1",
        **urls,
    }


def _url(settings: dict[str, Any]) -> str:
    name = quote(str(settings["NAME"]))
    if settings["ENGINE"] == database.ENGINES["sqlite"]:
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


def _prefix() -> str:
    return f"wellos-test-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-"
