"""Checks of the databases that hold jobs: E013, E014, W007, W008 and W009."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from itertools import combinations
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connections

from .. import conf
from ..database import default_database, has_job_table, job_databases, write_alias
from ..models import LedgerCursor
from ..models.fields import character_set

READ_COMMITTED = 2
"""As psycopg numbers the levels, in rising order."""

_ISOLATION_HINTS = {
    "mysql": 'Set DATABASES[{alias!r}]["OPTIONS"]["isolation_level"] = "read committed"; None is '
    "the default of the server, which is REPEATABLE READ.",
    "postgresql": 'Remove "isolation_level" from DATABASES[{alias!r}]["OPTIONS"], or run '
    "transactions again after an OperationalError.",
}


@register
def check_aliases(**_: Any) -> list[CheckMessage]:
    named = conf.current().job_databases if known_databases() else None
    if named is None:
        return []
    return [*_elsewhere(named), *(_one_database(*pair) for pair in _pairs() if _is_same(*pair))]


def _elsewhere(named: Collection[str]) -> Iterator[CheckMessage]:
    for alias in named:
        if (target := write_alias(alias)) != alias:
            yield Error(
                f"WELLOS_JOBS['JOB_DATABASES'] names {alias!r}, but the router writes its jobs to "
                f"{target!r}: no jobs are kept there.",
                hint="Remove it: a replica holds no jobs of its own.",
                id="wellos_jobs.E013",
            )
    if (target := default_database()) not in named:
        yield Error(
            f"The router writes jobs to {target!r}, which WELLOS_JOBS['JOB_DATABASES'] does not "
            "name: enqueue() refuses them.",
            hint=f"Add {target!r} to WELLOS_JOBS['JOB_DATABASES'], "
            "in the settings of all processes.",
            id="wellos_jobs.E014",
        )


@register(Tags.database)
def check_two_aliases(databases: Collection[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Ask the databases themselves, with ``check --database`` and ``migrate``: poolers hide it."""
    return [
        _one_database(*pair)
        for pair in _pairs()
        if set(pair) <= set(databases or ()) and not _is_same(*pair) and _see_the_same(*pair)
    ]


@register(Tags.database)
def check_character_sets(databases: Collection[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Ask MySQL and MariaDB, with ``check --database`` and ``migrate``."""
    return [
        Warning(
            f"Database {alias!r}: the tables of jobs have the character set {found}, which has no "
            "emojis and not every letter: errors and reasons are stored with escapes for them.",
            hint="Convert the tables: ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4.",
            id="wellos_jobs.W009",
        )
        for alias in known_databases()
        if alias in (databases or ()) and connections[alias].vendor == "mysql"
        if (found := _character_set(alias)) != "utf8mb4"
    ]


def _character_set(alias: str) -> str:
    return character_set.__wrapped__(alias, str(connections[alias].settings_dict["NAME"]))


@register
def check_isolation(**_: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"Database {alias!r}: transactions are isolated above READ COMMITTED, so enqueue() in "
            "a transaction may miss what others have enqueued since it began, and raise "
            "TransactionConflict or deadlock.",
            hint=_ISOLATION_HINTS[connections[alias].vendor].format(alias=alias),
            id="wellos_jobs.W008",
        )
        for alias in known_databases()
        if _is_isolated(alias)
    ]


def _is_isolated(alias: str) -> bool:
    """Return whether the settings ask for more than READ COMMITTED. SQLite has one writer."""
    connection = connections[alias]
    options = connection.settings_dict.get("OPTIONS", {})
    if connection.vendor == "mysql":
        level = options.get("isolation_level", "read committed")
        return level is None or str(level).lower() in {"repeatable read", "serializable"}
    if connection.vendor == "postgresql":
        return (options.get("isolation_level") or READ_COMMITTED) > READ_COMMITTED
    return False


def known_databases() -> list[str]:
    """Return the aliases of the databases that hold jobs; none while the settings are invalid."""
    return [] if any(conf.problems()) else job_databases()


def _pairs() -> Iterator[tuple[str, str]]:
    return combinations(known_databases(), 2)


def _is_same(first: str, second: str) -> bool:
    """Return whether the settings of two aliases lead to one database."""
    return _place(first) == _place(second)


def _place(alias: str) -> tuple[str, ...]:
    connection = connections[alias]
    settings = connection.settings_dict
    name = str(settings["NAME"])
    if connection.vendor == "sqlite":
        return connection.vendor, alias if ":memory:" in name else os.path.realpath(name)
    return connection.vendor, str(settings.get("HOST")), str(settings.get("PORT")), name


def _see_the_same(first: str, second: str) -> bool:
    """Return whether both read the marks that a leader last wrote, through each of them."""
    marks = [_marks(alias) for alias in (first, second)]
    return {first, second} <= {alias for alias, _ in marks[0] & marks[1]}


def _marks(alias: str) -> set[tuple[str, str]]:
    try:
        if not has_job_table(alias):
            return set()
        rows = LedgerCursor.objects.using(alias)
        return set(rows.values_list("database", "mark"))
    except DatabaseError:  # not migrated yet
        return set()


def _one_database(first: str, second: str) -> CheckMessage:
    return Warning(
        f"{first!r} and {second!r}, which WELLOS_JOBS['JOB_DATABASES'] names, are one database.",
        hint=f"Jobs of both are kept, once. Name only one of them, unless jobs are enqueued with "
        f"database={second!r}, in a transaction of that alias.",
        id="wellos_jobs.W007",
    )
