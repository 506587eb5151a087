"""Correct what Redis believes of jobs, by the rows: Redis may have come back with older data."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import redis as redis_py

from .. import broker
from ..broker import keys
from ..broker.rq_queue import code_lane_keys
from ..definitions import ids
from ..ledger.ledger import FORGET_AFTER
from ..models import JobRecord
from ..states import FINAL_STATES, RQ_STATUS, JobState

logger = logging.getLogger("wellos_jobs")

CHUNK = 500


def correct(database: str, served: Sequence[str], connection: redis_py.Redis) -> Iterator[None]:
    """Take jobs whose rows have ended out of Redis, and bring waiting ones to where theirs are.

    Yields after each chunk. Safe at any time: what Redis knows better than the rows stays.
    """
    for chunk in _chunks(_open_jobs(connection, served)):
        ended = _conclude(database, chunk, connection)
        if ended:
            logger.warning(
                "Redis had %d jobs of %s that have ended before: they are not run again",
                ended,
                database,
            )
        yield

    yield from _advance(database, served, connection)


def _conclude(database: str, jobs: Sequence[uuid.UUID], connection: redis_py.Redis) -> int:
    rows = JobRecord.objects.using(database).filter(pk__in=jobs, rq_id__isnull=True)
    arguments: list[Any] = []
    for pk, state, replays in rows.values_list("pk", "state", "replays"):
        if state in FINAL_STATES:
            arguments += [str(pk), RQ_STATUS[JobState(state)], replays]
        elif replays:  # what is left of the life before the replay has ended
            arguments += [str(pk), RQ_STATUS[JobState.FAILED], replays - 1]
    if not arguments:
        return 0
    return int(broker.run(connection, "conclude", broker.rq_time(), FORGET_AFTER, *arguments))


def _advance(database: str, served: Sequence[str], connection: redis_py.Redis) -> Iterator[None]:
    rows = JobRecord.objects.using(database).filter(
        state__in=[JobState.WAITING, JobState.DELAYED, JobState.ACTIVE],
        attempts__gt=0,
        rq_id__isnull=True,
        queue__in=served,
    )
    last: uuid.UUID | None = None
    while True:
        page = rows.filter(pk__gt=last) if last else rows
        values = page.order_by("pk").values_list("pk", "replays", "attempts", "state", "run_at")
        chunk = list(values[:CHUNK])
        if not chunk:
            return

        arguments: list[Any] = []
        for pk, replays, attempts, state, run_at in chunk:
            ended = attempts - 1 if state == JobState.ACTIVE else attempts
            due = f"{run_at.timestamp():.6f}" if run_at and state == JobState.DELAYED else ""
            arguments += [str(pk), replays, ended, due]
        broker.run(connection, "advance", *arguments)
        last = chunk[-1][0]
        yield


# --- what Redis has -------------------------------------------------------------------------------


def _open_jobs(connection: redis_py.Redis, served: Sequence[str]) -> Iterator[uuid.UUID]:
    """Yield the jobs of ours that run, wait or are delayed in Redis; some twice."""
    for text in _members(connection, served):
        if (job := ids.parse_id(text)) is not None:
            yield job


def _members(connection: redis_py.Redis, served: Sequence[str]) -> Iterator[str]:
    lanes = [lane for queue in served for lane in keys.lanes(queue)]
    lanes += [lane for queue in served for lane in code_lane_keys(connection, queue)]
    sorted_sets = [keys.LEASES, keys.DUE, *map(keys.turns, lanes)]

    for key in _existing(connection, sorted_sets):
        for member, _ in connection.zscan_iter(key, count=CHUNK):
            yield broker.text(member)
    for job, _ in connection.hscan_iter(keys.PARKED_FROM, count=CHUNK):
        yield broker.text(job)
    for lane in _existing(connection, lanes):
        yield from _entries(connection, lane)


def _existing(connection: redis_py.Redis, names: Sequence[str]) -> list[str]:
    with connection.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.exists(name)
        return [name for name, found in zip(names, pipeline.execute(), strict=True) if found]


def _entries(connection: redis_py.Redis, lane: str) -> Iterator[str]:
    """Yield the entries of a list from its end: what is claimed meanwhile moves none of them."""
    last = -1
    while found := connection.lrange(lane, last - CHUNK + 1, last):
        yield from map(broker.text, found)
        if len(found) < CHUNK:
            return
        last -= CHUNK


def _chunks(jobs: Iterator[uuid.UUID]) -> Iterator[list[uuid.UUID]]:
    while chunk := list(itertools.islice(jobs, CHUNK)):
        yield chunk
