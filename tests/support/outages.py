"""A database that is away for a while, as the processes of a test see it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Self

from django.db import connections

from . import test_run
from .processes import Fleet
from .proxies import Proxy

DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306}


class DatabaseOutage:
    """Stands between processes and the database ``default`` from their start; takes it away on
    call.

    PostgreSQL and MariaDB are reached through a proxy, which then breaks and refuses connections.
    An SQLite file is locked, so that each write fails after ``TIMEOUT`` seconds with "database is
    locked"; it can still be read. The test itself keeps its own way to PostgreSQL and MariaDB.
    """

    TIMEOUT = 1

    def __init__(self, processes: Fleet) -> None:
        self._processes = processes
        self._vendor = connections["default"].vendor
        self._proxy: Proxy | None = None

    def __enter__(self) -> Self:
        url = test_run.child_environment()["DATABASE_URL"]
        if self._vendor == "sqlite":
            self._processes.environment["DATABASE_URL"] = f"{url}?timeout={self.TIMEOUT}"
            return self
        settings = connections["default"].settings_dict
        port = int(settings["PORT"] or DEFAULT_PORTS[self._vendor])
        self._proxy = Proxy((settings["HOST"], port)).__enter__()
        self._processes.environment["DATABASE_URL"] = self._proxy.url_for(url)
        return self

    def __exit__(self, *_: object) -> None:
        if self._proxy is not None:
            self._proxy.refuse()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._proxy.refusing() if self._proxy is not None else self._locked():
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        connection = sqlite3.connect(
            connections["default"].settings_dict["NAME"], timeout=20, isolation_level=None
        )
        try:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")
        finally:
            connection.close()
