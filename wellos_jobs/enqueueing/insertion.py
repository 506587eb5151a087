"""Admission: which new jobs get a row, in the caller's transaction, and are pushed to Redis when that commits.

A job whose chosen id exists already, or whose unique key another job holds, gets none: its handle
leads to that job.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from ..database import insert_many, run_on_commit
from ..states import JobState
from . import dependencies, uniqueness
from .handle import JobHandle
from .push import push_records

if TYPE_CHECKING:
    from ..models import JobRecord


def insert(records: Sequence[JobRecord]) -> list[JobHandle]:
    """Write rows and push them when the caller's transaction commits. Ids that exist already make no job."""
    new: set[int] = set()
    by_database: dict[str, list[JobRecord]] = {}
    for record in records:
        by_database.setdefault(str(record._state.db), []).append(record)
    for database, group in by_database.items():
        if any(record.needs for record in group):
            with transaction.atomic(using=database):
                dependencies.before_insert(group, database)
                fresh = _insert_group(group, database)
                dependencies.after_insert(fresh, database)
            run_on_commit(database, dependencies.after_commit, fresh, database)
        else:
            fresh = _insert_group(group, database)
        new.update(map(id, fresh))
        ready = [record for record in fresh if record.state != JobState.BLOCKED]
        if ready:
            run_on_commit(database, push_records, ready)
    return [
        JobHandle(record.pk, record.queue, str(record._state.db), duplicate=id(record) not in new)
        for record in records
    ]


def _insert_group(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Insert rows into one database; return those that are new."""
    if any(record.unique is not None for record in records):
        with transaction.atomic(using=database):
            held = _claim_keys(records, database)
            return _insert_rows(held, database) if held else []
    return _insert_rows(records, database)


def _insert_rows(records: list[JobRecord], database: str) -> list[JobRecord]:
    if len(records) == 1:
        record = records[0]
        if not _is_chosen(record):
            record.save(force_insert=True, using=database)
            return records
        return records if _inserted(record, database) else []
    with transaction.atomic(using=database):
        wanted = _unknown(records, database)
        if not any(map(_is_chosen, wanted)):
            insert_many(wanted, database)
            return wanted
        ordered = sorted(
            wanted, key=lambda record: record.pk
        )  # so that two who enqueue the same do not deadlock
        try:
            with transaction.atomic(using=database):
                insert_many(ordered, database)
            return wanted
        except (
            IntegrityError
        ):  # somebody else has just inserted one of the chosen ids: find out which
            new = {id(record) for record in ordered if _inserted(record, database)}
            return [record for record in wanted if id(record) in new]


def _claim_keys(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Claim the unique keys of new jobs; return the jobs to insert. The others stand for the jobs that hold their keys.

    In the order of the keys, so that two who enqueue the same do not deadlock.
    """
    holders: dict[str, JobRecord] = {}
    replaced: dict[uuid.UUID, uuid.UUID] = {}
    duplicates: set[int] = set()
    for record in sorted(
        (one for one in records if one.unique is not None), key=lambda one: one.unique_key
    ):
        holder = holders.get(record.unique_key)
        if holder is None and record.unique is not None:
            holder = uniqueness.claim(record, record.unique_key, record.unique, database)
            holders[record.unique_key] = holder or record
        if holder is not None:
            replaced[record.pk] = holder.pk
            duplicates.add(id(record))
            record.pk, record.queue = (
                holder.pk,
                holder.queue,
            )  # the handle leads to the job that counts
    if not replaced:
        return records
    for record in records:  # of a flow, say
        record.needs = [replaced.get(needed, needed) for needed in record.needs]
        record.parent_id = (
            replaced.get(record.parent_id, record.parent_id) if record.parent_id else None
        )
    return [record for record in records if id(record) not in duplicates]


def _is_chosen(record: JobRecord) -> bool:
    return record.context.get("chosen_id") is not None


def _unknown(records: list[JobRecord], database: str) -> list[JobRecord]:
    """Return the rows to insert: without chosen ids that exist already or come a second time."""
    chosen = [record.pk for record in records if _is_chosen(record)]
    known = type(records[0]).objects.using(database).in_bulk(chosen) if chosen else {}
    wanted: list[JobRecord] = []
    for record in records:
        first = known.get(record.pk) if _is_chosen(record) else None
        if first is None:
            wanted.append(record)
            known[record.pk] = record
        else:
            record.queue = first.queue  # the handle leads to the job that exists
    return wanted


def _inserted(record: JobRecord, database: str) -> bool:
    """Insert a row; False if its id, one of the caller's choice, exists already."""
    try:
        with transaction.atomic(using=database):
            record.save(force_insert=True, using=database)
    except IntegrityError:
        first = type(record).objects.using(database).filter(pk=record.pk).first()
        if first is None:
            raise
        record.queue = first.queue  # the handle leads to the job that exists
        return False
    return True
