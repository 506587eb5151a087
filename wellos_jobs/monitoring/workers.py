"""Live workers, supervisors and schedulers: current job, queues, and queues without a worker.

Read-only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .. import broker
from ..broker import queues
from ..version import __version__

MOST = 1_000
"""Workers, and supervisors, read from one Redis at most."""


@dataclass(frozen=True)
class Task:
    """The job that a worker runs.

    ``running`` (None: unknown) and ``lease_left`` (None: no lease) are in seconds.
    """

    id: str
    name: str
    queue: str
    running: float | None
    lease_left: float | None


@dataclass(frozen=True)
class WorkerLine:
    """One worker process. ``silent``: seconds since its last heartbeat; ``memory``: bytes."""

    name: str
    source: str
    pid: str
    host: str
    queues: Sequence[str]
    supervisor: str
    is_quiet: bool
    task: Task | None
    done: int
    failed: int
    memory: int | None
    silent: float | None

    @property
    def is_busy(self) -> bool:
        return self.task is not None


@dataclass
class SupervisorLine:
    """A supervisor or scheduler and its workers.

    ``kind`` is ``workers`` or ``clock``; ``age`` and ``silent`` are in seconds.
    """

    token: str
    source: str
    kind: str
    host: str
    pid: str
    version: str
    python: str
    django: str
    queues: Sequence[str]
    age: float | None
    silent: float | None
    is_quiet: bool
    leads: bool
    workers: list[WorkerLine] = field(default_factory=list)

    @property
    def is_other_version(self) -> bool:
        """Whether it runs another version of this app than this process."""
        return self.version != __version__


@dataclass
class Workforce:
    """All processes on all Redis servers.

    ``alone`` are workers without a supervisor of this app; ``unserved`` are queues in which jobs
    wait while no worker serves them, with the number of jobs; ``more`` is the number of workers
    that are not listed.
    """

    supervisors: list[SupervisorLine] = field(default_factory=list)
    alone: list[WorkerLine] = field(default_factory=list)
    unserved: list[tuple[str, int]] = field(default_factory=list)
    suspended: list[str] = field(default_factory=list)
    without_leader: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    more: int = 0
    has_clock: bool = False

    @property
    def workers(self) -> list[WorkerLine]:
        return [worker for each in self.supervisors for worker in each.workers] + self.alone


def workforce() -> Workforce:
    """Return the processes that run now: two round trips per Redis."""
    found = Workforce()
    for source, names in broker.sources().items():
        try:
            reply = broker.run(broker.source_client(source, "call"), "workforce", MOST)
            counts = queues.all_counts(names)
        except broker.Error as error:
            found.problems.append(str(error))
            continue

        workers = _add(found, source, reply)
        served = {queue for worker in workers for queue in worker.queues}
        found.unserved += [
            (name, counts[name].waiting)
            for name in names
            if counts[name].waiting and name not in served
        ]

    found.supervisors.sort(key=lambda each: (each.kind != "workers", each.host, each.pid))
    return found


def _add(found: Workforce, source: str, reply: Sequence[Any]) -> list[WorkerLine]:
    stamp, leader, clock, suspended, registered, supervisors, rows = reply
    now = float(stamp)

    workers = sorted(
        (_worker(source, now, row) for row in rows), key=lambda worker: _natural(worker.name)
    )
    lines = {
        line.token: line
        for row in supervisors
        if (line := _supervisor(source, now, row, broker.text(leader)))
    }
    for worker in workers:
        supervisor = lines.get(worker.supervisor)
        (found.alone if supervisor is None else supervisor.workers).append(worker)

    found.supervisors += lines.values()
    found.has_clock = found.has_clock or bool(clock)
    found.suspended += [source] if suspended else []
    found.without_leader += [] if leader else [source]
    found.more += max(0, int(registered) - MOST)
    return workers


def _supervisor(
    source: str, now: float, row: Sequence[bytes], leader: str
) -> SupervisorLine | None:
    token, text, beat, quiet = map(broker.text, row)
    try:
        facts = json.loads(text)
    except ValueError:
        return None  # not written by this app

    return SupervisorLine(
        token=token,
        source=source,
        leads=token == leader,
        is_quiet=bool(quiet),
        silent=_ago(now, beat),
        age=_ago(now, facts.get("started")),
        queues=facts.get("queues") or [],
        kind=str(facts.get("kind", "")),
        host=str(facts.get("host", "")),
        pid=str(facts.get("pid", "")),
        version=str(facts.get("version", "")),
        python=str(facts.get("python", "")),
        django=str(facts.get("django", "")),
    )


def _worker(source: str, now: float, row: Sequence[bytes]) -> WorkerLine:
    (
        name,
        _state,
        job,
        pid,
        host,
        _version,
        names,
        _birth,
        heard,
        supervisor,
        memory,
        quiet,
        done,
        failed,
        *rest,
    ) = map(broker.text, row)

    return WorkerLine(
        name=name,
        source=source,
        pid=pid,
        host=host,
        queues=names.split(",") if names else [],
        supervisor=supervisor,
        is_quiet=bool(quiet),
        task=_task(now, job, rest) if job else None,
        done=_number(done) or 0,
        failed=_number(failed) or 0,
        memory=_number(memory),
        silent=_since(now, heard),
    )


def _task(now: float, job: str, fields: Sequence[str]) -> Task:
    lease, name, description, queue, started = fields
    left = float(lease) - now if lease else None
    return Task(job, name or description or job, queue, _since(now, started), left)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _ago(now: float, stamp: Any) -> float | None:
    try:
        return max(0.0, now - float(stamp))
    except (TypeError, ValueError):
        return None


def _since(now: float, iso: str) -> float | None:
    """Return the seconds since a time in RQ's format."""
    try:
        at = datetime.fromisoformat(iso)
    except ValueError:
        return None
    return max(0.0, now - (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _natural(name: str) -> tuple[str, int]:
    """Return a sort key that puts ``worker-10`` after ``worker-9``."""
    base, _, number = name.rpartition("-")
    return (base, int(number)) if number.isdigit() else (name, 0)
