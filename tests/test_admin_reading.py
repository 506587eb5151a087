"""Reading never writes: every page of the admin with a Redis user that may only read, and rows that are only read."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from wellos_jobs import Batch, Flow
from wellos_jobs.admin.pages import ENTRIES
from wellos_jobs.models import AuditEntry, BulkOperation, DeadLetter, JobAttempt, JobRecord, Schedule
from wellos_jobs.redis import source_client

from . import guarded_jobs, jobs
from .conftest import UseRedis
from .engine import Books, work

pytestmark = pytest.mark.django_db(transaction=True)
READS = ("+@read", "+time", "+@connection", "+@scripting", "-@dangerous", "+info", "+config|get")


@pytest.fixture
def rows() -> None:
    """Something on every page."""
    jobs.fail.using(max_attempts=1, organization="acme").enqueue()
    Flow(jobs.noop.with_data(), children=[jobs.noop.with_data()]).enqueue()
    with Batch(name="import") as batch:
        batch.enqueue_bulk(jobs.noop, [{}] * 2)
    Schedule.objects.create(name="nightly", job_name="test-noop", cron="0 2 * * *")
    guarded_jobs.limited.enqueue_bulk([{}] * 3)
    work()
    Books().fold()
    jobs.noop.using(delay=60).enqueue()
    jobs.noop.enqueue()


@pytest.fixture
def reader(rows: None, redis_client: redis.Redis, use_redis: UseRedis) -> Any:
    """Let this process come to Redis as somebody who may only read."""
    redis_client.acl_setuser("reader", enabled=True, passwords=["+reading"], keys=["*"], commands=list(READS))
    url = urlsplit(django_settings.REDIS_URL)
    use_redis(f"redis://reader:reading@{url.hostname}:{url.port}{url.path}")
    yield
    redis_client.acl_deluser("reader")


def pages() -> list[str]:
    found = [reverse(f"admin:{name}") for name, _text, _permission in ENTRIES]
    for model in (JobRecord, DeadLetter, JobAttempt, AuditEntry, Schedule):
        name = f"admin:{model._meta.label_lower.replace('.', '_')}"
        row = model._default_manager.first()
        assert row is not None, model
        found += [reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[row.pk])]
    found += [reverse("admin:wellos_jobs_batch_change", args=[batch.pk]) for batch in _batches()]
    flow = JobRecord.objects.exclude(flow_id=None).values_list("flow_id", flat=True).first()
    found += [reverse("admin:wellos_jobs_flow", args=[flow]), reverse("admin:wellos_jobs_bulkoperation_changelist")]
    found += [f"{reverse('admin:wellos_jobs_statistics')}?over={over}" for over in ("1h", "24h", "90d")]
    return [*found, reverse("admin:wellos_jobs_queues_stats")]


def _batches() -> Any:
    from wellos_jobs.models import Batch as BatchRow

    return BatchRow.objects.all()


def test_every_page(reader: None, redis_client: redis.Redis) -> None:
    assert not BulkOperation.objects.exists()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    with pytest.raises(redis.exceptions.NoPermissionError):
        source_client("default", "call").set("x", "y")
    before = dump(redis_client)
    for url in pages():
        with CaptureQueriesContext(connection) as queries:
            response = client.get(url)
        assert response.status_code == 200, url
        content = response.content.decode()
        assert "NOPERM" not in content and "no permissions" not in content.lower(), url
        written = [query["sql"] for query in queries if not query["sql"].startswith(("SELECT", "PRAGMA", "SET "))]
        assert written == [], url
    assert dump(redis_client) == before


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """Return all that Redis holds."""
    return {key: client.dump(key) for key in client.keys("*")}


def test_who_may_only_read_still_gets_a_handle(reader: None, redis_client: redis.Redis, caplog: Any) -> None:
    handle = jobs.noop.using(queue="slow").enqueue()
    assert handle.state == "waiting"
    assert JobRecord.objects.get(pk=handle.id).enqueued_at is None
    assert "Redis refuses: 1 committed jobs" in caplog.text
