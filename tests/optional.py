"""What the tests use if it is there: two database servers and a browser. How to find them, and how to get them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path
from urllib.parse import quote

HOW = {
    "postgres": "start PostgreSQL and set PGHOST, PGPORT, PGUSER and PGPASSWORD "
    "(127.0.0.1, 5432, postgres and no password, if unset)",
    "mariadb": "start MariaDB and set MYSQL_HOST, MYSQL_PORT, MYSQL_USER and MYSQL_PASSWORD "
    "(127.0.0.1, 3306, root and no password, if unset)",
    "chromium": "install chromium (Debian: apt-get install chromium) and Playwright (pip install playwright)",
}
CONNECT_SECONDS = 3
BROWSERS = ("chromium", "chromium-browser")


def postgres_url() -> str:
    """Return the URL of the PostgreSQL server, without a database."""
    variables = [("PGUSER", "postgres"), ("PGPASSWORD", ""), ("PGHOST", "127.0.0.1"), ("PGPORT", "5432")]
    return _url("postgres", *(os.environ.get(name, default) for name, default in variables))


def mariadb_url() -> str:
    """Return the URL of the MariaDB or MySQL server, without a database."""
    variables = [("MYSQL_USER", "root"), ("MYSQL_PASSWORD", ""), ("MYSQL_HOST", "127.0.0.1"), ("MYSQL_PORT", "3306")]
    return _url("mysql", *(os.environ.get(name, default) for name, default in variables))


def _url(scheme: str, user: str, password: str, host: str, port: str) -> str:
    secret = f":{quote(password, safe='')}" if password else ""
    return f"{scheme}://{quote(user, safe='')}{secret}@{host}:{port}/"


def postgres_fault() -> str | None:
    """Return why PostgreSQL cannot be used, None if it can."""
    try:
        import psycopg

        psycopg.connect(
            postgres_url().replace("postgres:", "postgresql:") + "postgres", connect_timeout=CONNECT_SECONDS
        ).close()
    except (ImportError, psycopg.Error) as error:
        return _first_line(error)
    return None


def mariadb_fault() -> str | None:
    """Return why MariaDB cannot be used, None if it can."""
    try:
        import pymysql

        pymysql.connect(
            host=os.environ.get("MYSQL_HOST", "127.0.0.1"),
            port=int(os.environ.get("MYSQL_PORT", "3306")),
            user=os.environ.get("MYSQL_USER", "root"),
            password=os.environ.get("MYSQL_PASSWORD", ""),
            connect_timeout=CONNECT_SECONDS,
        ).close()
    except (ImportError, pymysql.Error) as error:
        return _first_line(error)
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
    """Tell whether any test is marked ``browser``."""
    mark = re.compile(r"^\s*(@|pytestmark\b.*)pytest\.mark\.browser\b", re.MULTILINE)
    return any(mark.search(path.read_text()) for path in Path(__file__).parent.rglob("test_*.py"))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
