"""INSERT of new jobs in the caller's transaction, and their push to Redis when that commits.

A job whose chosen id exists already, or whose unique key another job holds, is not inserted: its
handle points to that job.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from ..database import (
    first_current,
    is_duplicate,
    retry_conflicts,
    run_on_commit,
)
from ..errors import TransactionConflict
from ..sql import insert_rows
from ..states import JobState
from . import dependencies, uniqueness
from .handle import JobHandle
from .push import push_records

if TYPE_CHECKING:
    from ..models import JobRecord


def insert(records: Sequence[JobRecord]) -> list[JobHandle]:
    """Insert rows and push them when the caller's transaction commits; return a handle for each.

    A chosen id that exists already creates no job.
    """
    by_database: dict[str, list[JobRecord]] = {}
    for record in records:
        by_database.setdefault(str(record._state.db), []).append(record)

    new: set[int] = set()
    for database, group in by_database.items():
        inserted = _insert_and_retry(group, database)
        new.update(map(id, inserted))

        ready = [record for record in inserted if record.state != JobState.BLOCKED]
        if ready:
            run_on_commit(database, push_records, ready)

    return [
        JobHandle(record.pk, record.queue, str(record._state.db), duplicate=id(record) not in new)
        for record in records
    ]


def _insert_and_retry(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Insert; if that loses against another transaction, start again with the rows as given."""
    given = [(row.pk, row.queue, row.state, row.parent_id, row.needs) for row in records]

    def step() -> list[JobRecord]:
        for row, values in zip(records, given, strict=True):
            row.pk, row.queue, row.state, row.parent_id, row.needs = values
        return _insert_with_dependencies(records, database)

    return retry_conflicts(database, step)


def _insert_with_dependencies(records: list[JobRecord], database: str) -> list[JobRecord]:
    if not any(record.needs for record in records):
        return _insert_unique(records, database)

    with transaction.atomic(using=database):
        dependencies.before_insert(records, database)
        inserted = _insert_unique(records, database)
        dependencies.after_insert(inserted, database)
    run_on_commit(database, dependencies.after_commit, inserted, database)
    return inserted


def _insert_unique(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Insert the rows whose unique keys are free; return those that are new."""
    if not any(record.unique is not None for record in records):
        return _insert_rows(records, database)

    with transaction.atomic(using=database):
        claimed = _reserve_keys(records, database)
        return _insert_rows(claimed, database) if claimed else []


def _insert_rows(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Insert rows; return those that are new."""
    if len(records) == 1:
        record = records[0]
        if not _has_chosen_id(record):
            insert_rows([record], database)
            return records
        return records if _insert_chosen(record, database) else []

    with transaction.atomic(using=database):
        wanted = _without_known_ids(records, database)
        if not any(map(_has_chosen_id, wanted)):
            insert_rows(wanted, database)
            return wanted

        # In the order of ids, so that two transactions with the same ids do not deadlock.
        ordered = sorted(wanted, key=lambda record: record.pk)
        try:
            with transaction.atomic(using=database):
                insert_rows(ordered, database)
            return wanted
        except IntegrityError:
            # Another transaction has just inserted one of the chosen ids: find out which.
            new = {id(record) for record in ordered if _insert_chosen(record, database)}
            return [record for record in wanted if id(record) in new]


# --- unique keys ----------------------------------------------------------------------------------


def _reserve_keys(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Reserve the unique keys of new jobs; return the jobs to insert.

    The others get the id of the job that holds their key. The keys are reserved in order, so that
    two transactions with the same keys do not deadlock.
    """
    keyed = [record for record in records if record.unique is not None]
    keyed.sort(key=lambda record: record.unique_key)

    holders: dict[str, JobRecord] = {}
    replaced: dict[uuid.UUID, uuid.UUID] = {}
    duplicates: set[int] = set()
    for record in keyed:
        holder = holders.get(record.unique_key)
        if holder is None and record.unique is not None:
            holder = uniqueness.reserve(record, record.unique_key, record.unique, database)
            holders[record.unique_key] = holder or record
        if holder is not None:
            replaced[record.pk] = holder.pk
            duplicates.add(id(record))
            # The handle points to the job that holds the key.
            record.pk, record.queue = holder.pk, holder.queue

    if not replaced:
        return records
    _point_to_holders(records, replaced)
    return [record for record in records if id(record) not in duplicates]


def _point_to_holders(records: list[JobRecord], replaced: Mapping[uuid.UUID, uuid.UUID]) -> None:
    """Let jobs, such as those of a flow, refer to the holders instead of the duplicates."""
    for record in records:
        record.needs = [replaced.get(needed, needed) for needed in record.needs]
        if record.parent_id:
            record.parent_id = replaced.get(record.parent_id, record.parent_id)


# --- chosen ids -----------------------------------------------------------------------------------


def _has_chosen_id(record: JobRecord) -> bool:
    return record.context.get("chosen_id") is not None


def _without_known_ids(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Return the rows without those whose chosen id exists already or is given a second time."""
    chosen = [record.pk for record in records if _has_chosen_id(record)]
    known = type(records[0]).objects.using(database).in_bulk(chosen) if chosen else {}

    wanted: list[JobRecord] = []
    for record in records:
        first = known.get(record.pk) if _has_chosen_id(record) else None
        if first is None:
            wanted.append(record)
            known[record.pk] = record
        else:
            record.queue = first.queue  # the handle points to the job that exists
    return wanted


def _insert_chosen(record: JobRecord, database: str) -> bool:
    """Insert a row; False if its chosen id exists already.

    Raises:
        TransactionConflict: it does, and this transaction cannot see it.
    """
    try:
        with transaction.atomic(using=database):
            insert_rows([record], database)
    except IntegrityError as error:
        first = first_current(type(record).objects.using(database).filter(pk=record.pk))
        if first is None and is_duplicate(error):
            raise TransactionConflict(
                f"job {record.pk} was enqueued by a transaction that this one cannot see: run this "
                "one again, or use READ COMMITTED"
            ) from error
        if first is None:
            raise
        record.queue = first.queue  # the handle points to the job that exists
        return False
    return True
