"""Admin pages take as many queries and Redis round trips with few rows as with many."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from wellos_jobs.definitions import ids
from wellos_jobs.models import (
    AuditEntry,
    Batch,
    BulkOperation,
    DeadLetter,
    JobAttempt,
    JobLog,
    JobRecord,
    SavedView,
    Schedule,
)
from wellos_jobs.monitoring import health_probes

from .. import jobs
from ..support import admin_pages
from ..support.admin_pages import FILES, PAGES
from ..support.round_trips import RoundTrips

pytestmark = pytest.mark.django_db(transaction=True)
TIMES = 12
MOST_QUERIES, MOST_TRIPS = 25, 12


@pytest.fixture
def root(no_notices: None) -> Iterator[User]:
    """Something on every page; a superuser."""
    with admin_pages.report_kinds():
        somebody = admin_pages.fill()
        DeadLetter.objects.update(
            assigned_to=somebody, resolved_by=somebody
        )  # without people it is a query less
        yield somebody


def test_queries_of_every_page_are_constant(
    root: User, round_trips: RoundTrips, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long this test takes: rows are old enough for health to ask whether Redis knows them.
    monkeypatch.setattr(health_probes, "UNPUSHED_AFTER", timedelta(0))
    client = Client()
    client.force_login(root)
    urls = {str(page): page.url() for page in (*PAGES, *FILES)}
    few = {name: cost(client, url, round_trips) for name, url in urls.items()}
    multiply(root)
    many = {name: cost(client, url, round_trips) for name, url in urls.items()}
    assert {name: (few[name], many[name]) for name in urls if few[name] != many[name]} == {}
    assert {
        name: paid for name, paid in many.items() if paid[0] > MOST_QUERIES or paid[1] > MOST_TRIPS
    } == {}


def cost(client: Client, url: str, round_trips: RoundTrips) -> tuple[int, int]:
    """Return the queries and Redis round trips of a warmed-up page."""
    client.get(url)
    with round_trips.counting() as trips, CaptureQueriesContext(connection) as queries:
        response: Any = client.get(url)
        assert response.status_code == 200, url
        if response.streaming:
            list(response.streaming_content)
    return len(queries), len(trips)


def multiply(root: User) -> None:
    """Let there be many of everything: of other people, and of the same job, batch, flow and fault,
    too."""
    people = User.objects.bulk_create(User(username=f"person-{n}") for n in range(TIMES))
    for job in list(JobRecord.objects.all()):
        made = copies(
            job, requested_by=people, organization_id=[f"organization-{n}" for n in range(TIMES)]
        )
        copy_all(JobAttempt.objects.filter(job=job), job=made)
        copy_all(
            DeadLetter.objects.filter(job=job), job=made, resolved_by=people, assigned_to=people
        )
        copy_all(JobLog.objects.filter(job=job), job=made)
    for model in (JobAttempt, DeadLetter, JobLog):
        copy_all(model.objects.filter(job__requested_by=root))
    copy_all(AuditEntry.objects.all())
    copy_all(Schedule.objects.all(), name=[f"schedule {n}" for n in range(200)])
    copy_all(Batch.objects.all())
    copy_all(BulkOperation.objects.all(), actor=people)
    copy_all(SavedView.objects.all(), name=[f"view {n}" for n in range(200)], shared=[True])
    for queue in ("default", "email", "reports", "low"):
        jobs.noop.using(queue=queue).enqueue_bulk([{}] * TIMES)


def copy_all(rows: Any, **changes: list[Any]) -> None:
    """Make copies of rows, each with other values in some columns; those of different rows differ
    as well."""
    for number, row in enumerate(list(rows)):
        copies(
            row,
            **{
                name: values[number * TIMES % len(values) :] + values
                for name, values in changes.items()
            },
        )


def copies(row: Any, **changes: list[Any]) -> list[Any]:
    model: type[Model] = type(row)
    columns = {
        field.attname: getattr(row, field.attname)
        for field in model._meta.concrete_fields
        if not field.primary_key
    }
    made = []
    for number in range(TIMES):
        copy = model(**columns)
        for name, values in changes.items():
            setattr(copy, name, values[number % len(values)])
        if isinstance(copy, JobRecord):
            copy.pk, copy.rq_id = ids.new_id(), None
        elif isinstance(copy, Batch):
            copy.pk = ids.new_id()
        made.append(copy)
    return list(model._default_manager.bulk_create(made))
