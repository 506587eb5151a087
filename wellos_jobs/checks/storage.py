"""Checks of the databases that hold jobs: W003 and W004."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning, register
from django.db import connections, router

from ..models import JobRecord

_WAL = re.compile(r"journal_mode\s*=\s*['\"]?wal", re.IGNORECASE)


@register
def check_sqlite(**_: Any) -> list[CheckMessage]:
    return [
        fault for alias in connections if _holds_jobs_in_sqlite(alias) for fault in _faults(alias)
    ]


def _holds_jobs_in_sqlite(alias: str) -> bool:
    return connections[alias].vendor == "sqlite" and router.allow_migrate_model(alias, JobRecord)


def _faults(alias: str) -> Iterator[CheckMessage]:
    settings = connections[alias].settings_dict
    options = settings.get("OPTIONS", {})
    if str(options.get("transaction_mode", "")).upper() not in {"IMMEDIATE", "EXCLUSIVE"}:
        yield Warning(
            f"Database {alias!r}: SQLite transactions begin DEFERRED, so a web request and the ledger that write at "
            "the same time fail with 'database is locked' instead of waiting.",
            hint=f'Set DATABASES[{alias!r}]["OPTIONS"]["transaction_mode"] = "IMMEDIATE".',
            id="wellos_jobs.W003",
        )
    if not _WAL.search(str(options.get("init_command", ""))) and not _in_memory(
        str(settings.get("NAME", ""))
    ):
        yield Warning(
            f"Database {alias!r}: SQLite is not told to use WAL, so a reader stops the ledger and the ledger stops "
            "readers.",
            hint=f'Set DATABASES[{alias!r}]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=wal;".',
            id="wellos_jobs.W004",
        )


def _in_memory(name: str) -> bool:
    return ":memory:" in name or "mode=memory" in name
