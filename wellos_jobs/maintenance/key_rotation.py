"""Key rotation: re-encrypt sensitive values in rows and Redis with the first ``ENCRYPTION_KEYS``.

Each value is replaced only if it is unchanged since it was read, so running jobs, the relay and
edits are safe. Values under the first key are skipped: an interrupted rotation continues where it
stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import models

from .. import broker, payload
from ..broker import job_hash, keys
from ..errors import EncryptionError, PayloadError
from ..models import DeadLetter, JobRecord, Schedule
from ..payload.rq_calls import unzipped

BATCH = 500


@dataclass
class RotationCount:
    """The outcome of a rotation in one database or one Redis."""

    seen: int = 0
    rotated: int = 0
    skipped: int = 0
    """Values that changed meanwhile; the next run takes them."""
    unreadable: int = 0
    """Values that no key can decrypt."""


def rotate_rows(using: str) -> RotationCount:
    """Rotate the rows of one database: jobs, schedules, and the former data of dead letters."""
    count = RotationCount()
    # Schedules first: the jobs they make carry their tokens over.
    for model, column in ((Schedule, "data"), (JobRecord, "data"), (DeadLetter, "former_data")):
        _rotate_table(model, column, using, count)
    return count


def _rotate_table(model: type[models.Model], column: str, using: str, count: RotationCount) -> None:
    every: models.QuerySet[Any] = models.QuerySet(model, using=using)  # includes removed schedules
    rows = every.filter(**{f"{column}__isnull": False}).order_by("pk")

    page = rows
    while batch := list(page.values_list("pk", column)[:BATCH]):
        for pk, data in batch:
            changed = _rotated(data, count)
            if changed is not None:
                updated = every.filter(**{"pk": pk, column: data}).update(**{column: changed})
                _add(count, updated, 1)
        page = rows.filter(pk__gt=batch[-1][0])


def rotate_hashes(source: str) -> RotationCount:
    """Rotate the job hashes of one Redis. Plain RQ jobs have no encrypted values: skipped."""
    count = RotationCount()
    connection = broker.source_client(source)
    for batch in _batches(connection):
        with connection.pipeline(transaction=False) as pipeline:
            for job_id in batch:
                pipeline.hmget(keys.job(job_id), [job_hash.NAME, job_hash.DATA])
            stored = pipeline.execute()

        arguments: list[Any] = []
        for job_id, (name, data) in zip(batch, stored, strict=True):
            if name is None or data is None:
                continue
            changed = _rotated_wire(data, count)
            if changed is not None:
                arguments += [job_id, data, changed]

        if arguments:
            _add(count, int(broker.run(connection, "rotate", *arguments)), len(arguments) // 3)
    return count


def _batches(connection: Any) -> Iterator[list[str]]:
    prefix = keys.job("")
    batch: list[str] = []
    for key in connection.scan_iter(match=f"{prefix}*", count=BATCH, _type="HASH"):
        batch.append(broker.text(key).removeprefix(prefix))
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _rotated_wire(data: bytes, count: RotationCount) -> str | None:
    """Return the ``data`` field of a job hash with rotated values; None if nothing changes."""
    try:
        path, instance, positional, stored = json.loads(unzipped(data))
    except (ValueError, TypeError, RecursionError):
        count.unreadable += 1
        return None
    changed = _rotated(stored, count)
    return None if changed is None else payload.to_json([path, instance, positional, changed])


def _rotated(data: Any, count: RotationCount) -> dict[str, Any] | None:
    count.seen += 1
    if not isinstance(data, dict):
        return None
    try:
        changed, is_new = payload.rotate(data)
    except (EncryptionError, PayloadError):
        count.unreadable += 1
        return None
    return changed if is_new else None


def _add(count: RotationCount, changed: int, tried: int) -> None:
    count.rotated += changed
    count.skipped += tried - changed
