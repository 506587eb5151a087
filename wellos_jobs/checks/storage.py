"""Checks of SQLite databases with jobs: W003 and W004."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning, register
from django.db import connections

from .databases import known_databases

_WAL = re.compile(r"journal_mode\s*=\s*['\"]?wal", re.IGNORECASE)


@register
def check_sqlite(**_: Any) -> list[CheckMessage]:
    return [
        message
        for alias in known_databases()
        if connections[alias].vendor == "sqlite"
        for message in _messages(alias)
    ]


def _messages(alias: str) -> Iterator[CheckMessage]:
    settings = connections[alias].settings_dict
    options = settings.get("OPTIONS", {})

    if str(options.get("transaction_mode", "")).upper() not in {"IMMEDIATE", "EXCLUSIVE"}:
        yield Warning(
            f"Database {alias!r}: SQLite transactions begin DEFERRED, so concurrent writes by a "
            "web request and the ledger fail with 'database is locked' instead of waiting.",
            hint=f'Set DATABASES[{alias!r}]["OPTIONS"]["transaction_mode"] = "IMMEDIATE".',
            id="wellos_jobs.W003",
        )

    uses_wal = _WAL.search(str(options.get("init_command", "")))
    if not uses_wal and not _in_memory(str(settings.get("NAME", ""))):
        yield Warning(
            f"Database {alias!r}: SQLite does not use WAL, so readers block the ledger, and the "
            "ledger blocks readers.",
            hint=f'Set DATABASES[{alias!r}]["OPTIONS"]["init_command"] = '
            '"PRAGMA journal_mode=wal;".',
            id="wellos_jobs.W004",
        )


def _in_memory(name: str) -> bool:
    return ":memory:" in name or "mode=memory" in name
