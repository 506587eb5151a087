"""Limits and circuit breakers: usage, the jobs that hold a limit, and those that wait for it.

Listed are the limits that jobs declare with a constant key, those whose number an operator has set,
those with waiting jobs, and those of active jobs; others can be found by their key. Read-only.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from django.utils.translation import gettext

from .. import broker
from ..broker import keys
from ..definitions import registry
from ..definitions.breaker import CircuitBreaker
from ..definitions.limits import Concurrency, RateLimit, fields_of

MOST = 2_000
"""Limits read from one Redis at most."""
SHOWN = 3
"""Holders of a limit, and waiting jobs, that are named at most."""

Kind = Literal["concurrency", "rate", "breaker"]
Guard = Concurrency | RateLimit | CircuitBreaker
KINDS: dict[str, Kind] = {"c:": "concurrency", "r:": "rate", "b:": "breaker"}


@dataclass(frozen=True)
class LimitedJob:
    """A job that holds a limit or waits for it.

    ``since``: seconds since it started, or began to wait; None: unknown.
    """

    id: str
    name: str
    since: float | None


@dataclass
class LimitRow:
    """One limit on one Redis.

    ``declared`` are the numbers that jobs declare, ``operator_number`` the one an operator has set.
    ``used`` counts runs, starts in the ``period`` (seconds), or failures ``within`` the time of a
    breaker.
    """

    id: str
    source: str
    declared: Sequence[int]
    operator_number: int | None
    used: int
    waiting: int
    period: float | None = None
    room_in: float | None = None
    """Seconds until the oldest start leaves the period, when the limit is full."""
    open_for: float | None = None
    """Seconds since a breaker opened; None: it is closed."""
    probe_in: float | None = None
    """Seconds until the next probe; None: there is no automatic probe."""
    is_probing: bool = False
    within: float | None = None
    holders: list[LimitedJob] = field(default_factory=list)
    waiting_jobs: list[LimitedJob] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        return KINDS[self.id[:2]]

    @property
    def key(self) -> str:
        """The key without kind and period."""
        key = self.id[2:]
        return key.rpartition("/")[0] if self.kind == "rate" else key

    @property
    def most(self) -> int | None:
        """The effective number; None if only a job's data determine it."""
        if self.operator_number is not None:
            return self.operator_number
        return min(self.declared, default=None)

    @property
    def left(self) -> int | None:
        return None if self.most is None else max(0, self.most - self.used)

    @property
    def is_full(self) -> bool:
        return self.left == 0

    @property
    def load(self) -> float:
        """The share that is used, to sort by."""
        return self.used / self.most if self.most else float(self.used)

    @property
    def is_open(self) -> bool:
        return self.open_for is not None


@dataclass
class LimitBoard:
    """A page of limits, the busiest first, and all breakers. ``total``: the limits on all pages."""

    breakers: list[LimitRow] = field(default_factory=list)
    limits: list[LimitRow] = field(default_factory=list)
    total: int = 0
    unseen: int = 0
    """Limits with waiting jobs that were not read because there are too many."""
    problems: list[str] = field(default_factory=list)
    """What could not be read, as sentences."""


def board(sought: str = "", start: int = 0, page_size: int = 50) -> LimitBoard:
    """Return the limits whose key contains ``sought``: two round trips per Redis."""
    page = LimitBoard()
    found: list[LimitRow] = []
    guards = list(_guards())
    for source in broker.sources():
        try:
            found += _found(source, guards, sought, page)
        except broker.Error as error:
            page.problems.append(_not_asked(error))

    found = [limit for limit in found if sought in limit.key]
    found.sort(key=lambda limit: (not limit.is_open, -limit.waiting, -limit.load, limit.id))
    page.breakers = [limit for limit in found if limit.kind == "breaker"]
    limits = [limit for limit in found if limit.kind != "breaker"]
    page.total = len(limits)
    page.limits = limits[start : start + page_size]

    shown = [limit for limit in page.breakers + page.limits if _has_jobs(limit)]
    for source in broker.sources():
        here = [limit for limit in shown if limit.source == source]
        if here:
            _name_jobs(source, here, page)
    return page


# --- declared by jobs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Declared:
    """A limit as a job declares it: ``pattern`` matches its ids; ``id`` is the only one or ''."""

    guard: Guard
    pattern: re.Pattern[str]
    id: str


def _guards() -> Iterator[_Declared]:
    for definition in registry.all_jobs():
        for guard in definition.limits:
            if callable(guard.key):
                continue  # the key depends on the job's data
            if not fields_of(guard.key):
                known = str(guard.wire(definition.name, {}, "")["id"])
                yield _Declared(guard, re.compile(re.escape(known)), known)
            else:
                text = _prefix(guard) + _pattern(str(guard.key)) + _suffix(guard)
                yield _Declared(guard, re.compile(text), "")


def _prefix(guard: Guard) -> str:
    return "c:" if isinstance(guard, Concurrency) else "r:"


def _suffix(guard: Guard) -> str:
    return re.escape(f"/{guard.period:g}") if isinstance(guard, RateLimit) else ""


def _pattern(key: str) -> str:
    parts = string.Formatter().parse(key)
    return "".join(
        re.escape(text) + (".*" if name is not None else "") for text, name, _spec, _how in parts
    )


def _number(guard: Guard) -> int:
    if isinstance(guard, CircuitBreaker):
        return guard.failures
    return guard.n if isinstance(guard, Concurrency) else guard.most


def _sought_ids(guards: Sequence[_Declared], sought: str) -> Iterator[str]:
    """Yield the ids that a searched key may have."""
    for declared in guards:
        chosen = f"{_prefix(declared.guard)}{sought}"
        if isinstance(declared.guard, RateLimit):
            chosen += f"/{declared.guard.period:g}"
        if not declared.id and declared.pattern.fullmatch(chosen):
            yield chosen


# --- read from Redis ------------------------------------------------------------------------------


def _found(
    source: str, guards: Sequence[_Declared], sought: str, page: LimitBoard
) -> Iterator[LimitRow]:
    asked = {declared.id: _within(declared.guard) for declared in guards if declared.id}
    always = set(asked)
    if sought:
        asked |= dict.fromkeys(_sought_ids(guards, sought), "")

    arguments = [part for pair in asked.items() for part in pair]
    stamp, waiting, rows = broker.run(
        broker.source_client(source, "call"), "limit_board", MOST, *arguments
    )
    page.unseen += max(0, int(waiting) - MOST)
    limits = [
        limit
        for row in rows
        if (limit := _read(source, float(stamp), row, guards, page)) is not None
    ]
    return (
        limit
        for limit in limits
        if limit.id in always or limit.used or limit.waiting or limit.operator_number is not None
    )


def _read(
    source: str, now: float, row: Sequence[Any], guards: Sequence[_Declared], page: LimitBoard
) -> LimitRow | None:
    """Return a limit, None for an unknown kind; a limit with damaged keys becomes a problem."""
    try:
        return _limit_row(source, now, row, guards)
    except (ValueError, TypeError, AttributeError) as error:
        text = gettext("What Redis holds on limit %(limit)s cannot be read: %(error)s")
        page.problems.append(text % {"limit": broker.text(row[0]), "error": error})
        return None


def _not_asked(error: broker.Error) -> str:
    return gettext("Redis could not be queried: %(error)s") % {"error": error}


def _within(guard: Guard) -> str:
    return str(guard.wire("", {}, "")["within"]) if isinstance(guard, CircuitBreaker) else ""


def _limit_row(
    source: str, now: float, row: Sequence[Any], guards: Sequence[_Declared]
) -> LimitRow | None:
    limit_id, stored, chosen = (broker.text(part) for part in row[:3])
    since, until, probe = (broker.text(part) for part in row[5:])
    if limit_id[:2] not in KINDS:
        return None

    known = [declared.guard for declared in guards if declared.pattern.fullmatch(limit_id)]
    number = int(chosen) if chosen.isdigit() else None
    limit = LimitRow(
        id=limit_id,
        source=source,
        declared=_declared(known, stored),
        operator_number=number,
        used=int(row[4]),
        waiting=int(row[3]),
    )

    if limit.kind == "rate":
        limit.period = float(limit_id.rpartition("/")[2])
        if since and limit.is_full:
            limit.room_in = max(0.0, float(since) + limit.period - now)
    if limit.kind == "breaker":
        limit.within = next((float(_within(guard)) for guard in known), None)
        if until:
            limit.open_for = max(0.0, now - float(since)) if since else 0.0
            limit.is_probing = bool(probe)
            limit.probe_in = (
                None if probe or float(until) >= keys.FAR else max(0.0, float(until) - now)
            )
    return limit


def _declared(known: Sequence[Guard], stored: str) -> list[int]:
    """Return the numbers that jobs declare, or else the one that its last jobs have stored."""
    numbers = {_number(guard) for guard in known}
    if not numbers and stored:
        limit = json.loads(stored)
        numbers = {int(limit.get("b") or limit.get("n") or 0)} - {0}
    return sorted(numbers)


def _has_jobs(limit: LimitRow) -> bool:
    return bool(limit.waiting or limit.is_open or (limit.kind == "concurrency" and limit.used))


def _name_jobs(source: str, limits: Sequence[LimitRow], page: LimitBoard) -> None:
    try:
        connection = broker.source_client(source, "call")
        rows = broker.run(connection, "limit_jobs", SHOWN, *(limit.id for limit in limits))
    except broker.Error as error:
        page.problems.append(_not_asked(error))
        return

    now = datetime.now(UTC).timestamp()
    for limit, (holders, waiting) in zip(limits, rows, strict=True):
        limit.holders = [_holder(now, row, of_run=True) for row in holders]
        limit.waiting_jobs = [_holder(now, row, of_run=False) for row in waiting]


def _holder(now: float, row: Sequence[bytes], *, of_run: bool) -> LimitedJob:
    job, name, waited, started = map(broker.text, row)
    try:
        at = datetime.fromisoformat(started).timestamp() if of_run else float(waited)
    except ValueError:
        return LimitedJob(job, name or job, None)
    return LimitedJob(job, name or job, max(0.0, now - at))
