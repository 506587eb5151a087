"""Health report: is everything available that jobs need, and does it keep up? Read-only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.utils import timezone

from .. import broker, conf
from ..database import default_database, job_databases
from ..definitions import registry
from . import health_checks, health_probes
from .health_checks import NAMES, Check, Status, worst
from .health_probes import DatabaseFacts, RedisFacts

__all__ = [
    "NAMES",
    "Check",
    "HealthReport",
    "Status",
    "backlog",
    "database_answers",
    "report",
    "worst",
]

TIMEOUT = 1.5
"""Seconds after which a Redis or a database that has not answered counts as down."""
UNPUSHED_TIMEOUT = 0.5
"""Seconds that Redis has to answer which of the unpushed rows it knows."""

Stores = Mapping[str, DatabaseFacts | Exception]
Servers = Mapping[str, RedisFacts | Exception]


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The checks of each database, Redis and queue at one moment, in a fixed order."""

    checks: tuple[Check, ...]
    at: datetime

    @property
    def status(self) -> Status:
        """The worst status of all checks."""
        return worst(self.checks)

    def named(self, *names: str) -> tuple[Check, ...]:
        """Return the checks of these names (see ``NAMES``)."""
        return tuple(check for check in self.checks if check.name in names)


def report(timeout: float = TIMEOUT) -> HealthReport:
    """Check every database, Redis and queue, concurrently.

    It takes milliseconds, and hardly more than ``timeout`` seconds when a server does not respond.
    A server that is down is a finding, not an exception. It uses its own connections, independent
    of the caller's transaction.
    """
    stores, servers = _ask(job_databases(), timeout)
    unknown = _unpushed(stores)
    return HealthReport(tuple(_evaluate(stores, servers, unknown)), timezone.now())


def backlog(timeout: float = TIMEOUT) -> tuple[Check, ...]:
    """Return only the checks ``backlog``, one per queue; none without ``BACKLOG_ALERTS``.

    It queries Redis only.
    """
    _stores, servers = _ask([], timeout)
    return tuple(
        check
        for source, facts in servers.items()
        for check in _backlogs(broker.sources()[source], facts)
    )


def database_answers(timeout: float = TIMEOUT) -> bool:
    """Return whether the default database for jobs responds."""
    alias = default_database()
    found = health_probes.ask(
        {("database", alias): partial(health_probes.database_facts, alias)}, timeout
    )
    return isinstance(found["database", alias], DatabaseFacts)


def _ask(aliases: Sequence[str], timeout: float) -> tuple[Stores, Servers]:
    sources = broker.sources()
    questions: dict[tuple[str, ...], Callable[[], Any]] = {}
    questions |= {
        ("database", alias): partial(health_probes.database_facts, alias) for alias in aliases
    }
    questions |= {
        ("redis", source): partial(health_probes.redis_facts, source, names)
        for source, names in sources.items()
    }
    found = health_probes.ask(questions, timeout)
    stores = {alias: found["database", alias] for alias in aliases}
    return stores, {source: found["redis", source] for source in sources}


def _unpushed(stores: Stores) -> dict[str, list[datetime]]:
    """Return the creation times of the rows that Redis does not know, by database.

    Rows of a Redis that is down count as unknown.
    """
    rows = {
        alias: facts.unpushed for alias, facts in stores.items() if isinstance(facts, DatabaseFacts)
    }
    questions: dict[tuple[str, ...], Callable[[], Any]] = {}
    for alias, found in rows.items():
        for source, names in broker.sources().items():
            if here := [pk for pk, queue, _created in found if queue in names]:
                question = partial(health_probes.known_to_redis, source, here)
                questions["known", alias, source] = question

    answers = health_probes.ask(questions, UNPUSHED_TIMEOUT) if questions else {}
    known: set[Any] = set()
    for answer in answers.values():
        if not isinstance(answer, Exception):
            known |= answer
    return {
        alias: [created for pk, _queue, created in found if pk not in known]
        for alias, found in rows.items()
    }


def _evaluate(
    stores: Stores, servers: Servers, unpushed: Mapping[str, list[datetime]]
) -> Iterator[Check]:
    now, settings = timezone.now(), conf.current()
    for alias, store in stores.items():
        yield health_checks.database(alias, store, is_default=alias == default_database())
        if isinstance(store, DatabaseFacts) and store.has_tables:
            yield health_checks.relay(alias, unpushed[alias], now)
            yield health_checks.schedules(alias, store)

    for source, facts in servers.items():
        yield from health_checks.server(source, facts, settings.stream_max)

    databases = [store for store in stores.values() if isinstance(store, DatabaseFacts)]
    up = [facts for facts in servers.values() if isinstance(facts, RedisFacts)]
    complete = len(databases) == len(stores) and len(up) == len(servers)
    yield health_checks.scheduler(databases, up, complete=complete, now=now)

    for source, facts in servers.items():
        for queue in broker.sources()[source]:
            yield health_checks.workers(queue, facts)
    for source, facts in servers.items():
        yield from _backlogs(broker.sources()[source], facts)
    yield health_checks.imports(registry.failed_imports())


def _backlogs(names: Sequence[str], facts: RedisFacts | Exception) -> Iterator[Check]:
    limits = conf.current().backlog_alerts
    for queue in names if limits is not None else ():
        yield health_checks.backlog(queue, facts, limits or {})
