"""Viewing never writes: every admin page with a read-only Redis user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from wellos_jobs.broker import source_client
from wellos_jobs.models import JobRecord

from .. import jobs
from ..conftest import UseRedis
from ..support import admin_pages
from ..support.admin_pages import FILES, PAGES

pytestmark = pytest.mark.django_db(transaction=True)
READS = ("+@read", "+time", "+@connection", "+@scripting", "-@dangerous", "+info", "+config|get")


@pytest.fixture
def rows(no_notices: None) -> Iterator[User]:
    """Something on every page; a superuser."""
    with admin_pages.report_kinds():
        yield admin_pages.fill()


@pytest.fixture
def reader(rows: User, redis_client: redis.Redis, use_redis: UseRedis) -> Iterator[User]:
    """A superuser; this process uses a read-only Redis user."""
    redis_client.acl_setuser(
        "reader", enabled=True, passwords=["+reading"], keys=["*"], commands=list(READS)
    )
    url = urlsplit(django_settings.REDIS_URL)
    use_redis(f"redis://reader:reading@{url.hostname}:{url.port}{url.path}")
    yield rows
    redis_client.acl_deluser("reader")


def test_every_page(reader: User, redis_client: redis.Redis) -> None:
    client = Client()
    client.force_login(reader)
    with pytest.raises(redis.exceptions.NoPermissionError):
        source_client("default", "call").set("x", "y")
    before = dump(redis_client)
    for page in (*PAGES, *FILES):
        with CaptureQueriesContext(connection) as queries:
            response: Any = client.get(page.url())
        assert response.status_code == 200, page
        content = b"".join(response.streaming_content) if response.streaming else response.content
        assert b"NOPERM" not in content, page
        assert "no permissions" not in content.decode().lower(), page
        written = [
            query["sql"]
            for query in queries
            if not query["sql"].startswith(("SELECT", "PRAGMA", "SET "))
        ]
        assert written == [], page
    assert dump(redis_client) == before


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """Return all that Redis holds."""
    return {key: client.dump(key) for key in client.keys("*")}


def test_a_read_only_redis_user_gets_a_handle(
    reader: User, redis_client: redis.Redis, caplog: Any
) -> None:
    handle = jobs.noop.using(queue="slow").enqueue()
    assert handle.state == "waiting"
    assert JobRecord.objects.get(pk=handle.id).enqueued_at is None
    assert "Redis refuses the push: the relay will push 1 committed jobs" in caplog.text
