"""``contrib.cleanup``: which rows go, how many a transaction, and which stay."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import registry
from wellos_jobs.contrib import cleanup
from wellos_jobs.errors import ConfigurationError
from wellos_jobs.retry import Fail
from wellos_jobs.states import FailureReason


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cleanup, "_expired_tokens", [])
    monkeypatch.setattr(cleanup, "_pending_users", [])
    with registry.isolated():
        yield


def expired(now: datetime) -> Any:
    return Session.objects.filter(expire_date__lt=now)


def make_sessions(count: int, days: int) -> None:
    when = timezone.now() + timedelta(days=days)
    Session.objects.bulk_create(
        Session(session_key=f"{days}-{number:05}", session_data="", expire_date=when) for number in range(count)
    )


def test_expired_tokens_go_and_the_number_is_returned(db: None) -> None:
    make_sessions(7, days=-1)
    make_sessions(3, days=1)
    cleanup.register_expired_tokens(expired)
    assert cleanup.cleanup_expired_tokens() == 7
    assert Session.objects.count() == 3
    assert cleanup.cleanup_expired_tokens() == 0


def test_pending_users_go_with_what_hangs_on_them_but_only_users_are_counted(db: None) -> None:
    user_model = get_user_model()
    for name, active in (("old", False), ("new", True)):
        user = user_model.objects.create_user(name, is_active=active)
        user.groups.create(name=f"group of {name}")
    cleanup.register_pending_users(lambda now: user_model.objects.filter(is_active=False, date_joined__lt=now))
    assert cleanup.cleanup_pending_users() == 1
    assert [user.username for user in user_model.objects.all()] == ["new"]


def test_a_cleanup_is_scheduled_once_it_has_something_to_clean() -> None:
    assert registry.get("cleanup-expired-tokens").schedule is None
    cleanup.register_expired_tokens(expired)
    cleanup.register_pending_users(lambda now: get_user_model().objects.none())
    lines = {job.name: job.schedule.line for job in registry.all_jobs() if job.schedule and job.queue == "cleanup"}
    assert lines == {"cleanup-expired-tokens": "0 2 * * *", "cleanup-pending-users": "0 * * * *"}


def test_a_source_registered_twice_is_asked_once(db: None) -> None:
    asked = []

    def source(now: datetime) -> Any:
        asked.append(now)
        return Session.objects.none()

    cleanup.register_expired_tokens(source)
    cleanup.register_expired_tokens(source)
    assert cleanup.cleanup_expired_tokens() == 0
    assert len(asked) == 1
    assert timezone.is_aware(asked[0])


def test_rows_go_in_batches(db: None) -> None:
    make_sessions(25, days=-1)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert cleanup.delete_in_batches(Session.objects.all(), size=10) == 25
    deletes = [query["sql"] for query in queries if query["sql"].startswith("DELETE")]
    assert len(deletes) == 3


def test_a_row_that_leaves_the_queryset_before_its_batch_is_deleted_stays(db: None) -> None:
    make_sessions(25, days=-1)
    rows = expired(timezone.now())
    batches = cleanup._batches(rows, 10)
    first = next(batches)
    Session.objects.filter(pk=first[4]).update(expire_date=timezone.now() + timedelta(days=1))
    assert cleanup._delete(rows.filter(pk__in=first)) == 9
    assert sum(cleanup._delete(rows.filter(pk__in=keys)) for keys in batches) == 15
    assert [session.pk for session in Session.objects.all()] == [first[4]]


@pytest.mark.parametrize("job", [cleanup.cleanup_expired_tokens, cleanup.cleanup_pending_users])
def test_nothing_registered_is_an_error_that_says_what_to_do_and_is_not_retried(job: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"call wellos_jobs\.contrib\.cleanup\.register_") as error:
        job()
    assert job.definition.policy.decide(error.value, 1) == Fail(FailureReason.NOT_RETRYABLE)


def test_names_and_queue(db: None) -> None:
    tokens, users = cleanup.cleanup_expired_tokens.enqueue(), cleanup.cleanup_pending_users.enqueue()
    assert [handle.record().name for handle in (tokens, users)] == ["cleanup-expired-tokens", "cleanup-pending-users"]
    assert {handle.queue for handle in (tokens, users)} == {"cleanup"}
