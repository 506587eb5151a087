"""``DATABASE_URL`` as an entry of Django's ``DATABASES``."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

SQLITE_OPTIONS: dict[str, Any] = {
    # a deferred transaction that turns to writing fails instead of waiting
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
}
ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
    "mariadb": "django.db.backends.mysql",
}


def sqlite(path: Path) -> dict[str, Any]:
    """Return the entry for an SQLite file that several processes write to."""
    return {"ENGINE": ENGINES["sqlite"], "NAME": str(path), "OPTIONS": dict(SQLITE_OPTIONS)}


def from_url(url: str) -> dict[str, Any]:
    """Return the entry for a URL such as ``postgres://user:password@host:5432/name``.

    Raises:
        ValueError: the scheme is unknown.
    """
    parts = urlsplit(url)
    if parts.scheme not in ENGINES:
        known = ", ".join(f"{scheme}://" for scheme in ENGINES)
        raise ValueError(
            f"DATABASE_URL starts with {parts.scheme!r}://: it must start with one of {known}"
        )

    if parts.scheme == "sqlite":
        return sqlite(Path(unquote(parts.path).removeprefix("/") or ":memory:"))
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if ENGINES[parts.scheme] == ENGINES["mysql"]:
        _use_pymysql()
        options = {"charset": "utf8mb4", "isolation_level": "read committed"} | options
    return {
        "ENGINE": ENGINES[parts.scheme],
        "NAME": unquote(parts.path).removeprefix("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        "OPTIONS": options,
    }


def _use_pymysql() -> None:
    """Use PyMySQL, which needs no C compiler, unless mysqlclient is installed."""
    if importlib.util.find_spec("MySQLdb") is None:
        importlib.import_module("pymysql").install_as_MySQLdb()
