"""Health checks: a status and advice for each, from the facts of the probes. Pure functions."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..broker.queues import QueueCounts
from .health_probes import DatabaseFacts, RedisFacts

LAG = (10.0, 60.0)
"""Seconds that the oldest event may wait for the ledger: above the first a warning, above the
second critical."""
SILENCE = (30.0, 120.0)
"""Seconds since the leader's last heartbeat, which it sends every five seconds."""
UNPUSHED = (30.0, 300.0)
"""Seconds that a row may be unknown to Redis: a push takes milliseconds, the relay seconds."""
STREAM = (0.5, 1.0)
"""Shares of ``STREAM_MAX``."""
MEMORY = (0.8, 0.95)
"""Shares of ``maxmemory``."""
OVERDUE = 60.0
"""Seconds by which a run of a schedule may be late while a scheduler leads."""


class Status(enum.StrEnum):
    """The result of a check, from good to bad.

    Unknown: it could not be checked because something else is down.
    """

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    CRITICAL = "critical"


_RANK = {status: rank for rank, status in enumerate(Status)}


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    ``name`` is one of ``NAMES``, ``where`` its target: the alias of a database, a Redis (by the
    first of its queues) or a queue. ``value`` is the number behind the status (seconds, a count or
    a share), None if there is none. ``text`` says what was found and how to fix it.
    """

    name: str
    where: str
    status: Status
    value: float | None
    text: str


NAMES = (
    "database",
    "relay",
    "redis",
    "memory",
    "eviction",
    "persistence",
    "leader",
    "ledger",
    "stream",
    "scheduler",
    "schedules",
    "workers",
    "backlog",
    "imports",
)
"""All checks."""


def imports(failed: Mapping[str, str]) -> Check:
    """``failed``: the apps whose jobs this process could not import, each with its error."""
    if not failed:
        return Check("imports", "", Status.OK, 0, _("The jobs of all apps are known."))
    text = _(
        "The jobs of %(app)s cannot be imported (%(error)s): here their triggers do nothing, and "
        "no worker or scheduler starts with this code."
    )
    app, error = next(iter(failed.items()))
    return Check("imports", app, Status.CRITICAL, len(failed), text % {"app": app, "error": error})


def worst(checks: Iterable[Check]) -> Status:
    """Return the worst status among checks; ok when there are none."""
    return max((check.status for check in checks), key=_RANK.__getitem__, default=Status.OK)


def _level(value: float, limits: tuple[float, float]) -> Status:
    warning, critical = limits
    return Status.CRITICAL if value > critical else Status.WARNING if value > warning else Status.OK


# --- a database -----------------------------------------------------------------------------------


def database(alias: str, facts: DatabaseFacts | Exception, *, is_default: bool) -> Check:
    if isinstance(facts, Exception):
        text = _(
            "The database does not respond (%(error)s): no job can be enqueued. Is the server up?"
        )
        return Check("database", alias, Status.CRITICAL, None, text % {"error": facts})
    if is_default and not facts.has_tables:
        text = _("The tables of jobs are missing: run `manage.py migrate`.")
        return Check("database", alias, Status.CRITICAL, facts.seconds, text)
    return Check("database", alias, Status.OK, facts.seconds, _("The database answers."))


def relay(alias: str, unpushed: Sequence[datetime], now: datetime) -> Check:
    """``unpushed``: creation times of the rows that Redis does not know, oldest first."""
    age = (now - unpushed[0]).total_seconds() if unpushed else 0.0
    if not unpushed:
        return Check("relay", alias, Status.OK, 0.0, _("Every committed job has reached Redis."))
    text = ngettext(
        "%(n)d committed job has not reached Redis for %(age).0f s: "
        "is Redis up, and is a `rqworker` running?",
        "%(n)d committed jobs have not reached Redis, the oldest for %(age).0f s: "
        "is Redis up, and is a `rqworker` running?",
        len(unpushed),
    )
    return Check(
        "relay", alias, _level(age, UNPUSHED), age, text % {"n": len(unpushed), "age": age}
    )


# --- a Redis --------------------------------------------------------------------------------------


def server(source: str, facts: RedisFacts | Exception, stream_max: int) -> Iterator[Check]:
    """Check one Redis: reachable, memory, eviction, persistence, leader, ledger and stream."""
    if isinstance(facts, Exception):
        text = _(
            "Redis does not respond (%(error)s): jobs are enqueued, but none runs. "
            "Is the server up?"
        )
        yield Check("redis", source, Status.CRITICAL, None, text % {"error": facts})
        for name in ("memory", "eviction", "persistence", "leader", "ledger", "stream"):
            yield Check(name, source, Status.UNKNOWN, None, _("Redis does not respond."))
        return

    yield Check("redis", source, Status.OK, facts.seconds, _("Redis answers."))
    yield _memory(source, facts.info)
    yield _eviction(source, facts.info)
    yield _persistence(source, facts)
    yield _leader(source, facts)
    yield _ledger(source, facts)
    yield _stream(source, facts, stream_max)


def _memory(source: str, info: Mapping[str, Any]) -> Check:
    used, most = info.get("used_memory"), info.get("maxmemory")
    if used is None or most is None:
        return _not_readable("memory", source)

    megabytes = {"used": used / 1e6, "most": most / 1e6}
    if not most:
        text = _("%(used).0f MB are used; `maxmemory` sets no limit, the machine's memory does.")
        return Check("memory", source, Status.OK, None, text % megabytes)

    share = used / most
    status = _level(share, MEMORY)
    text = _("%(used).0f of %(most).0f MB are used.") % megabytes
    if status is not Status.OK:
        text += " " + _(
            "When memory is full, no job can be pushed: raise `maxmemory`, or find what fills it."
        )
    return Check("memory", source, status, share, text)


def _eviction(source: str, info: Mapping[str, Any]) -> Check:
    policy = info.get("maxmemory_policy")
    if policy is None:
        return _not_readable("eviction", source)
    if policy == "noeviction":
        return Check("eviction", source, Status.OK, None, _("Nothing is evicted."))
    text = _(
        "`maxmemory-policy` is %(policy)s: when memory is full, jobs are deleted. "
        "Set it to `noeviction`."
    )
    return Check("eviction", source, Status.WARNING, None, text % {"policy": policy})


def _persistence(source: str, facts: RedisFacts) -> Check:
    info = facts.info
    if "aof_enabled" not in info:
        return _not_readable("persistence", source)

    failed = [
        field
        for field in (
            "rdb_last_bgsave_status",
            "aof_last_write_status",
            "aof_last_bgrewrite_status",
        )
        if info.get(field, "ok") != "ok"
    ]
    if failed:
        text = _(
            "Redis could not write to disk (%(failed)s): is the disk full? It may refuse writes."
        )
        return Check(
            "persistence", source, Status.CRITICAL, None, text % {"failed": ", ".join(failed)}
        )

    if info["aof_enabled"] or facts.snapshots:
        return Check("persistence", source, Status.OK, None, _("Redis keeps its data on disk."))
    if facts.snapshots is None:
        return _not_readable("persistence", source)
    text = _(
        "Redis does not persist its data: after a restart jobs are restored from the database, "
        "which is slower. Set `appendonly yes`."
    )
    return Check("persistence", source, Status.WARNING, None, text)


def _leader(source: str, facts: RedisFacts) -> Check:
    age = facts.beat_age
    if facts.has_leader and age is not None and age <= SILENCE[0]:
        return Check("leader", source, Status.OK, age, _("Maintenance is running."))

    if facts.has_leader:
        status = Status.CRITICAL if age is not None and age > SILENCE[1] else Status.WARNING
        text = _(
            "A process leads, but its maintenance has sent no heartbeat lately: check its log."
        )
        return Check("leader", source, status, age, text)

    if age is not None and age <= SILENCE[0]:
        text = _("No process leads at the moment: another one takes over within seconds.")
        return Check("leader", source, Status.WARNING, age, text)

    text = _(
        "Maintenance is not running, so rows lag behind and lost jobs are not recovered: "
        "start `manage.py rqworker` or `rqscheduler`."
    )
    return Check("leader", source, Status.CRITICAL, age, text)


def _ledger(source: str, facts: RedisFacts) -> Check:
    if facts.lag is None or facts.events is None:
        return _not_readable("ledger", source)
    status = _level(facts.lag, LAG)
    if status is Status.OK:
        return Check("ledger", source, status, facts.lag, _("The rows are up to date."))
    text = _(
        "%(events)d events wait for the ledger, the oldest for %(lag).0f s: "
        "is a database down or slow, is maintenance running?"
    )
    return Check(
        "ledger", source, status, facts.lag, text % {"events": facts.events, "lag": facts.lag}
    )


def _stream(source: str, facts: RedisFacts, most: int) -> Check:
    if facts.events is None:
        return _not_readable("stream", source)
    status = _level(facts.events / most, STREAM)
    text = _("The event stream holds %(events)d of `STREAM_MAX` %(most)d events.")
    if status is not Status.OK:
        text += " " + _("Above it enqueueing slows down: fix what holds up the ledger.")
    return Check(
        "stream", source, status, facts.events, text % {"events": facts.events, "most": most}
    )


def _not_readable(name: str, source: str) -> Check:
    return Check(name, source, Status.UNKNOWN, None, _("This Redis user may not read it."))


# --- schedules -----------------------------------------------------------------------------------


def scheduler(
    stores: Sequence[DatabaseFacts], servers: Sequence[RedisFacts], *, complete: bool, now: datetime
) -> Check:
    """Check the scheduler, over all databases and Redis servers that answered.

    ``complete``: all of them answered.
    """
    due = min(
        (facts.next_run_at for facts in stores if facts.next_run_at is not None), default=None
    )
    late = max(0.0, (now - due).total_seconds()) if due is not None else 0.0
    is_needed = any(facts.schedules for facts in stores) or any(facts.entries for facts in servers)

    if any(facts.has_clock for facts in servers):
        if late <= OVERDUE:
            return Check(
                "scheduler", "", Status.OK, late, _("A scheduler is running, and no run is late.")
            )
        text = _("A scheduler is running, but a run is %(late).0f s late: check its log.")
        return Check("scheduler", "", Status.CRITICAL, late, text % {"late": late})

    if not complete:
        return Check(
            "scheduler", "", Status.UNKNOWN, None, _("Not every database and Redis responds.")
        )
    if not is_needed:
        return Check(
            "scheduler",
            "",
            Status.OK,
            None,
            _("No scheduler is running, and no schedule needs one."),
        )
    text = _("No scheduler is running, but there are schedules: start `manage.py rqscheduler`.")
    return Check("scheduler", "", Status.CRITICAL, late, text)


def schedules(alias: str, facts: DatabaseFacts) -> Check:
    if not facts.broken_schedules:
        return Check("schedules", alias, Status.OK, 0, _("Every schedule can run."))
    text = ngettext(
        "%(n)d schedule cannot run: its page in the admin says why.",
        "%(n)d schedules cannot run: their pages in the admin say why.",
        facts.broken_schedules,
    )
    count = facts.broken_schedules
    return Check("schedules", alias, Status.WARNING, count, text % {"n": count})


# --- a queue --------------------------------------------------------------------------------------


def workers(queue: str, facts: RedisFacts | Exception) -> Check:
    if isinstance(facts, Exception):
        return Check("workers", queue, Status.UNKNOWN, None, _("Redis does not respond."))
    if queue not in facts.counts:
        return _not_readable("workers", queue)

    alive, waiting = facts.workers[queue], facts.counts[queue].waiting
    numbers = {"alive": alive, "waiting": waiting, "queue": queue}
    if alive:
        text = ngettext(
            "%(alive)d worker serves the queue.", "%(alive)d workers serve the queue.", alive
        )
        return Check("workers", queue, Status.OK, alive, text % numbers)

    if not waiting:
        return Check(
            "workers",
            queue,
            Status.OK,
            0,
            _("No worker serves the queue, and nothing waits in it."),
        )
    text = ngettext(
        "%(waiting)d job waits, but no worker serves the queue: "
        "start `manage.py rqworker %(queue)s`.",
        "%(waiting)d jobs wait, but no worker serves the queue: "
        "start `manage.py rqworker %(queue)s`.",
        waiting,
    )
    return Check("workers", queue, Status.CRITICAL, 0, text % numbers)


def backlog(queue: str, facts: RedisFacts | Exception, limits: Mapping[str, float]) -> Check:
    """``limits`` is ``BACKLOG_ALERTS``."""
    if isinstance(facts, Exception):
        return Check("backlog", queue, Status.UNKNOWN, None, _("Redis does not respond."))
    if queue not in facts.counts:
        return _not_readable("backlog", queue)

    now = facts.counts[queue]
    if not now.waiting:
        return Check("backlog", queue, Status.OK, 0, _("Nothing waits."))
    numbers = {"n": now.waiting, "oldest": now.oldest_wait or 0.0}
    text = ngettext(
        "%(n)d job waits, for %(oldest).0f s.",
        "%(n)d jobs wait, the oldest for %(oldest).0f s.",
        now.waiting,
    )

    if not _exceeds(now, limits):
        return Check("backlog", queue, Status.OK, now.waiting, text % numbers)
    text += " " + _("Are there enough workers, is the queue paused, is a limit used up?")
    return Check("backlog", queue, Status.WARNING, now.waiting, text % numbers)


def _exceeds(now: QueueCounts, limits: Mapping[str, float]) -> bool:
    return now.waiting > limits["waiting"] or (now.oldest_wait or 0.0) > limits["oldest_wait"]
