"""Health: is everything there that jobs need, and does it keep up? Reading only, and never for longer than asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.utils import timezone

from .. import broker, conf
from ..database import default_database, job_databases
from . import health_checks, health_probes
from .health_checks import NAMES, Check, Status, worst
from .health_probes import DatabaseFacts, RedisFacts

__all__ = ["NAMES", "Check", "Report", "Status", "backlog", "database_answers", "report", "worst"]

TIMEOUT = 1.5
"""Seconds after which a Redis or a database that has not answered counts as away."""
SECOND_LOOK = 0.5
"""Seconds that Redis gets at most to say which of the unpushed rows it knows."""

Stores = Mapping[str, DatabaseFacts | Exception]
Servers = Mapping[str, RedisFacts | Exception]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found at one moment: a check for each database, Redis and queue, in a fixed order."""

    checks: tuple[Check, ...]
    at: datetime

    @property
    def status(self) -> Status:
        """The worst of all."""
        return worst(self.checks)

    def named(self, *names: str) -> tuple[Check, ...]:
        """Return the checks of these names (see ``NAMES``)."""
        return tuple(check for check in self.checks if check.name in names)


def report(timeout: float = TIMEOUT) -> Report:
    """Look at every database, Redis and queue at once. Changes nothing, and raises nothing because of what is away.

    It takes some milliseconds, and hardly more than ``timeout`` seconds when somebody does not
    answer. It asks on connections of its own, so the caller's transaction is neither seen nor
    disturbed.
    """
    stores, servers = _ask(job_databases(), timeout)
    unknown = _unpushed(stores)
    return Report(tuple(_judge(stores, servers, unknown)), timezone.now())


def backlog(timeout: float = TIMEOUT) -> tuple[Check, ...]:
    """Return the checks ``backlog`` alone: one for each queue, none without ``BACKLOG_ALERTS``. Asks Redis only."""
    _stores, servers = _ask([], timeout)
    return tuple(
        check
        for source, facts in servers.items()
        for check in _backlogs(broker.sources()[source], facts)
    )


def database_answers(timeout: float = TIMEOUT) -> bool:
    """Tell whether the database where jobs go answers, so that more may be asked of it."""
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
    """Return, by database, when the rows were made that Redis has not heard of; those of a Redis that is away count."""
    rows = {
        alias: facts.unpushed for alias, facts in stores.items() if isinstance(facts, DatabaseFacts)
    }
    asked: dict[tuple[str, ...], Callable[[], Any]] = {}
    for alias, found in rows.items():
        for source, names in broker.sources().items():
            if here := [pk for pk, queue, _created in found if queue in names]:
                asked["known", alias, source] = partial(health_probes.known_to_redis, source, here)
    answers = health_probes.ask(asked, SECOND_LOOK) if asked else {}
    known = {
        pk for answer in answers.values() if not isinstance(answer, Exception) for pk in answer
    }
    return {
        alias: [created for pk, _queue, created in found if pk not in known]
        for alias, found in rows.items()
    }


def _judge(
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
    told = [store for store in stores.values() if isinstance(store, DatabaseFacts)]
    up = [facts for facts in servers.values() if isinstance(facts, RedisFacts)]
    complete = len(told) == len(stores) and len(up) == len(servers)
    yield health_checks.scheduler(told, up, complete=complete, now=now)
    for source, facts in servers.items():
        for queue in broker.sources()[source]:
            yield health_checks.workers(queue, facts)
    for source, facts in servers.items():
        yield from _backlogs(broker.sources()[source], facts)


def _backlogs(names: Sequence[str], facts: RedisFacts | Exception) -> Iterator[Check]:
    limits = conf.current().backlog_alerts
    for queue in names if limits is not None else ():
        yield health_checks.backlog(queue, facts, limits or {})
