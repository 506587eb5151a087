"""What the tests use if it is there: two database servers and a browser. How to find them, and how
to get them.

``python -m tests.support.optional_parts postgres|mariadb|chromium`` says why one cannot be used and
exits with status 1 then.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

HOW = {
    "postgres": "start PostgreSQL and set PGHOST, PGPORT, PGUSER and PGPASSWORD "
    "(127.0.0.1, 5432, postgres and no password, if unset)",
    "mariadb": "start MariaDB and set MYSQL_HOST, MYSQL_PORT, MYSQL_USER and MYSQL_PASSWORD "
    "(127.0.0.1, 3306, root and no password, if unset)",
    "chromium": "install chromium (Debian: apt-get install chromium)"
    " and Playwright (pip install playwright)",
}
CONNECT_SECONDS = 3
BROWSERS = ("chromium", "chromium-browser")


def postgres_url() -> str:
    """Return the URL of the PostgreSQL server, without a database."""
    variables = [
        ("PGUSER", "postgres"),
        ("PGPASSWORD", ""),
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", "5432"),
    ]
    return _url("postgres", *(os.environ.get(name, default) for name, default in variables))


def mariadb_url() -> str:
    """Return the URL of the MariaDB or MySQL server, without a database."""
    variables = [
        ("MYSQL_USER", "root"),
        ("MYSQL_PASSWORD", ""),
        ("MYSQL_HOST", "127.0.0.1"),
        ("MYSQL_PORT", "3306"),
    ]
    return _url("mysql", *(os.environ.get(name, default) for name, default in variables))


def _url(scheme: str, user: str, password: str, host: str, port: str) -> str:
    secret = f":{quote(password, safe='')}" if password else ""
    return f"{scheme}://{quote(user, safe='')}{secret}@{host}:{port}/"


def connect_to_postgres() -> Any:
    """Open a connection to the server's own database; each statement is its own transaction."""
    import psycopg

    url = postgres_url().replace("postgres:", "postgresql:", 1)
    return psycopg.connect(f"{url}postgres", connect_timeout=CONNECT_SECONDS, autocommit=True)


def connect_to_mariadb() -> Any:
    """Open a connection to no database; each statement is its own transaction."""
    import pymysql

    parts = urlsplit(mariadb_url())
    return pymysql.connect(
        host=parts.hostname or "",
        port=parts.port or 0,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        connect_timeout=CONNECT_SECONDS,
        autocommit=True,
    )


def postgres_fault() -> str | None:
    """Return why PostgreSQL cannot be used, None if it can."""
    return _fault(connect_to_postgres)


def mariadb_fault() -> str | None:
    """Return why MariaDB cannot be used, None if it can."""
    return _fault(connect_to_mariadb)


def _fault(connect: Callable[[], Any]) -> str | None:
    try:
        connect().close()
    except (
        Exception
    ) as error:  # a driver that is missing, a server that is away, an account that is refused
        return str(error).strip().partition("\n")[0]
    return None


def chromium() -> str | None:
    """Return the path of the browser, None when it or Playwright is not installed."""
    if importlib.util.find_spec("playwright") is None:
        return None
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def chromium_fault() -> str | None:
    """Return why the browser tests cannot be run, None if they can."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed"
    return None if chromium() else f"none of {', '.join(BROWSERS)} is installed"


def has_browser_tests() -> bool:
    """Return whether any test is marked ``browser``."""
    mark = re.compile(r"^\s*(@|pytestmark\b.*)pytest\.mark\.browser\b", re.MULTILINE)
    return any(
        mark.search(path.read_text()) for path in Path(__file__).parents[1].rglob("test_*.py")
    )


FAULTS = {"postgres": postgres_fault, "mariadb": mariadb_fault, "chromium": chromium_fault}


def main(part: str) -> int:
    """Print why a part cannot be used and return 1, or return 0."""
    fault = FAULTS[part]()
    if fault is not None:
        print(fault)
    return int(fault is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
