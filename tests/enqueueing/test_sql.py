"""Rows written without the ORM are the rows that the ORM would have written."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import Model
from django.db.transaction import TransactionManagementError
from pytest_django import DjangoAssertNumQueries

from wellos_jobs.models import JobRecord
from wellos_jobs.sql import insert_rows, update_rows
from wellos_jobs.states import JobState

from ..jobs import add

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=UTC)
TEXTS = (
    "",
    "plain",
    'it\'s "quoted"',
    "back\\slash, {braces}, [brackets], NULL, null",
    "a,b;c\nd\te",
    "%s %(name)s %%",
    "žluťoučký 🐎 ‏",
)
DATA: tuple[Any, ...] = (
    {},
    *({"text": text, text: [text, {"deep": text}]} for text in TEXTS),
    {"numbers": [0, -1, 1.5, 1e300, 10**15], "none": None, "bool": [True, False]},
    ["a list"],
    "a text",
)


def job(number: int, **values: Any) -> JobRecord:
    return JobRecord(
        id=uuid.UUID(int=number + 1),
        **{"name": "test-add", "queue": "email", "created_at": NOW, "data": {}, **values},
    )


def columns(row: Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def stored() -> list[dict[str, Any]]:
    return [columns(row) for row in JobRecord.objects.order_by("pk")]


def odd_jobs() -> list[JobRecord]:
    """Return jobs that differ in every column that a new job may have."""
    jobs = []
    for number, data in enumerate(DATA):
        text, is_even = TEXTS[number % len(TEXTS)], number % 2 == 0
        jobs.append(
            job(
                number,
                data=data,
                result=data if is_even else None,
                error=text,
                organization_id=text[:60],
                priority=number % 3,
                timeout=number / 7,
                run_at=NOW if is_even else None,
                flow_id=uuid.UUID(int=number) if is_even else None,
                state=JobState.DELAYED if is_even else JobState.WAITING,
                rq_id=f"rq {text} {number}" if is_even else None,
                context={"locale": text},
            )
        )
    return jobs


@pytest.mark.parametrize("together", [True, False])
def test_rows_are_as_the_orm_writes_them(together: bool) -> None:
    for row in odd_jobs():
        row.save(force_insert=True)
    expected = stored()
    JobRecord.objects.all().delete()

    rows = odd_jobs()
    for group in [rows] if together else [[row] for row in rows]:
        insert_rows(group, "default")

    assert stored() == expected
    assert not any(row._state.adding for row in rows)


def test_no_rows() -> None:
    insert_rows([], "default")
    update_rows([], ["name"], "default")
    assert not JobRecord.objects.exists()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite stores texts of any length")
@pytest.mark.parametrize("count", [1, 2])
def test_a_value_that_is_too_long_is_refused_and_not_cut(count: int) -> None:
    with pytest.raises(DataError), transaction.atomic():
        insert_rows([job(number, queue="q" * 101) for number in range(count)], "default")
    assert not JobRecord.objects.exists()


@pytest.mark.parametrize("count", [1, 2])
def test_a_transaction_in_which_an_insert_failed_cannot_commit(count: int) -> None:
    insert_rows([job(0)], "default")
    with pytest.raises(TransactionManagementError), transaction.atomic():
        with pytest.raises(IntegrityError):
            insert_rows([job(number) for number in range(count)], "default")
        JobRecord.objects.count()
    assert JobRecord.objects.count() == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="others take a row at a time")
def test_many_rows_are_one_statement(
    django_assert_num_queries: DjangoAssertNumQueries, django_capture_on_commit_callbacks: Any
) -> None:
    with django_assert_num_queries(3), django_capture_on_commit_callbacks():  # and a savepoint
        add.enqueue_bulk([{"a": number, "b": 1} for number in range(500)])
    assert JobRecord.objects.count() == 500


def test_named_columns_of_many_rows() -> None:
    rows = odd_jobs()
    insert_rows(rows, "default")
    for number, row in enumerate(rows):
        row.error, row.name, row.context = f"error {number}", "unsaved", {"n": number}
    update_rows(rows, ["error", "context"], "default")
    assert [(row["error"], row["context"], row["name"]) for row in stored()] == [
        (f"error {number}", {"n": number}, "test-add") for number in range(len(rows))
    ]
