"""Key rotation: encrypt sensitive values anew with the first of ``ENCRYPTION_KEYS``, in rows and in Redis.

Each value is replaced only if it still is what was read, so no running job, relay or edit is raced.
What is under the first key already is left alone: a rotation that was broken off goes on where it
stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import models

from .. import broker, payload
from ..broker import keys
from ..errors import EncryptionError, PayloadError
from ..models import DeadLetter, JobRecord, Schedule
from ..payload.rq_calls import unzipped

BATCH = 500


@dataclass
class Count:
    """What a rotation did in one place."""

    seen: int = 0
    rotated: int = 0
    skipped: int = 0
    """Values that changed meanwhile: another run takes them."""
    unreadable: int = 0
    """Values that none of the keys opens."""


def rotate_rows(using: str) -> Count:
    """Rotate the rows of one database: jobs, schedules, and the data that letters keep."""
    count = Count()
    for model, column in ((JobRecord, "data"), (Schedule, "data"), (DeadLetter, "former_data")):
        _rotate_table(model, column, using, count)
    return count


def _rotate_table(model: type[models.Model], column: str, using: str, count: Count) -> None:
    every: models.QuerySet[Any] = models.QuerySet(model, using=using)  # removed schedules, too
    rows = every.filter(**{f"{column}__isnull": False}).order_by("pk")
    last: Any = None
    while batch := list(
        (rows.filter(pk__gt=last) if last else rows).values_list("pk", column)[:BATCH]
    ):
        for pk, data in batch:
            changed = _rotated(data, count)
            if changed is not None:
                updated = every.filter(**{"pk": pk, column: data}).update(**{column: changed})
                _add(count, updated, 1)
        last = batch[-1][0]


def rotate_hashes(source: str) -> Count:
    """Rotate the job hashes of one Redis. Jobs of foreign code have nothing encrypted and are passed over."""
    count = Count()
    connection = broker.source_client(source)
    for batch in _batches(connection):
        with connection.pipeline(transaction=False) as pipeline:
            for job_id in batch:
                pipeline.hmget(keys.job(job_id), ["w:name", "data"])
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


def _rotated_wire(data: bytes, count: Count) -> str | None:
    """Return the ``data`` field of a hash with its values rotated; None when there is nothing to change."""
    try:
        path, instance, positional, stored = json.loads(unzipped(data))
    except (ValueError, TypeError):
        count.unreadable += 1
        return None
    changed = _rotated(stored, count)
    return None if changed is None else payload.to_json([path, instance, positional, changed])


def _rotated(data: Any, count: Count) -> dict[str, Any] | None:
    count.seen += 1
    if not isinstance(data, dict):
        return None
    try:
        changed, is_new = payload.rotate(data)
    except (EncryptionError, PayloadError):
        count.unreadable += 1
        return None
    return changed if is_new else None


def _add(count: Count, changed: int, tried: int) -> None:
    count.rotated += changed
    count.skipped += tried - changed
