"""Job status and its HTTP endpoints: what is shown to whom, and that reading changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django_rq
import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from wellos_jobs import JobHandle, JobQueue, Priority, errors, operations, status
from wellos_jobs.broker import job_hash, keys, queues
from wellos_jobs.definitions import ids
from wellos_jobs.enqueueing import control
from wellos_jobs.models import AuditEntry, JobRecord
from wellos_jobs.states import JobState
from wellos_jobs.worker.progress import Reporter

from .. import jobs
from ..conftest import UseRedis
from ..support.engine import Books, Hand, work
from ..support.servers import free_port

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


def user_with(*permissions: str) -> User:
    user = User.objects.create_user("-".join(permissions) or "nobody")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def get(user: User | None, job_id: object) -> Any:
    client = Client()
    if user is not None:
        client.force_login(user)
    return client.get(f"/jobs/{job_id}/status")


def cancel(user: User | None, job_id: object, *, check_csrf: bool = False, **data: str) -> Any:
    client = Client(enforce_csrf_checks=check_csrf)
    if user is not None:
        client.force_login(user)
    return client.post(f"/jobs/{job_id}/cancel", data)


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """All that is in a Redis."""
    return {key: client.dump(key) for key in client.scan_iter()}


def yes(request: Any, record: JobRecord) -> bool:
    """A project's CAN_VIEW_JOB: whoever is in the job's organization."""
    return bool(request.user.username == record.organization_id)


# --- the read model -------------------------------------------------------------------------------


def test_a_waiting_job(books: Books, ada: User) -> None:
    handle = jobs.add.using(requested_by=ada, priority=Priority.HIGH).enqueue(a=2)
    found = status.job_status(handle.id)
    assert list(found) == [
        *(
            "id",
            "name",
            "queue",
            "priority",
            "state",
            "progress",
            "progress_message",
            "data",
            "result",
            "error",
        ),
        *(
            "attempts",
            "max_attempts",
            "created_at",
            "run_at",
            "enqueued_at",
            "started_at",
            "finished_at",
        ),
    ]
    assert found["id"] == str(handle)
    assert (found["name"], found["queue"], found["priority"]) == ("test-add", "reports", 3)
    assert (found["state"], found["progress"], found["data"]) == ("waiting", 0, {"a": 2})
    assert (found["result"], found["error"], found["attempts"], found["max_attempts"]) == (
        None,
        None,
        0,
        3,
    )
    assert found["enqueued_at"].tzinfo is not None
    assert found["started_at"] is None


def test_redis_is_ahead_of_the_rows(books: Books) -> None:
    """The ledger has folded nothing, and yet the status is the newest."""
    handle = jobs.add.enqueue(a=2, b=3)
    work()
    assert handle.record().state == JobState.WAITING
    found = status.job_status(handle.record())
    assert (found["state"], found["result"], found["attempts"]) == ("completed", 5, 1)
    assert (
        found["created_at"] <= found["enqueued_at"] <= found["started_at"] <= found["finished_at"]
    )


def test_progress_while_it_runs(books: Books) -> None:
    handle = jobs.noop.enqueue()
    hand = Hand()
    Reporter(hand.claimer, hand.take())(40, "rendering", True)
    found = status.job_status(str(handle))
    assert (found["state"], found["progress"], found["progress_message"]) == (
        "active",
        40,
        "rendering",
    )


def test_the_row_is_used_when_redis_does_not_know_the_job(
    books: Books, redis_client: redis.Redis
) -> None:
    handle = jobs.add.enqueue(a=2)
    work()
    books.fold()
    redis_client.flushall()
    found = status.job_status(handle.id)
    assert (found["state"], found["result"]) == ("completed", 3)
    assert "problem" not in found


def test_a_failed_job(books: Books) -> None:
    handle = jobs.fail.enqueue(message="no such partner")
    work()
    assert status.job_status(handle.id)["error"] == "no such partner"
    books.fold()
    found = status.job_status(handle.id)
    assert (found["state"], found["error"]) == ("failed", "no such partner")


def test_the_error_of_an_earlier_attempt_is_gone(books: Books) -> None:
    handle = jobs.scripted.enqueue(steps=["on:1:progress:50:half", "on:1:raise:ValueError:broken"])
    work()
    record = books.row(handle)
    assert (record.state, record.error) == ("delayed", "broken")
    assert status.job_status(record)["error"] == "broken"
    assert control.promote(record)
    work()
    found = status.job_status(handle.record())  # the row still knows the first attempt only
    assert (found["state"], found["error"], found["progress"], found["attempts"]) == (
        "completed",
        None,
        100,
        2,
    )


def test_the_hash_of_an_earlier_run_is_ignored(
    books: Books, use_redis: UseRedis, settings: Any
) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    handle = jobs.fail.enqueue()
    work()
    record = books.row(handle)
    JobRecord.objects.update(state="waiting", replays=1, error="")
    record.refresh_from_db()
    assert status.job_status(record)["state"] == "waiting"  # not "failed", as the old hash says


def test_secrets_are_redacted(books: Books) -> None:
    from datetime import UTC, date, datetime
    from decimal import Decimal

    value = {
        "price": Decimal("9.50"),
        "day": date(2026, 3, 8),
        "at": datetime(2026, 3, 8, 7, tzinfo=UTC),
    }
    handle = jobs.echo.enqueue(value=value)
    secret = jobs.secret.enqueue(token="open sesame")
    work()
    assert status.job_status(handle.id)["data"]["value"]["price"] == "9.50"
    assert status.job_status(handle.id)["result"]["day"] == "2026-03-08"
    assert status.job_status(secret.id)["data"] == {"token": "********"}


@pytest.mark.parametrize(
    "unknown", ["nonsense", "", "01890000-0000-7000-8000-000000000000", ids.new_id(), "x" * 500]
)
def test_unknown_ids(unknown: Any) -> None:
    with pytest.raises(errors.JobNotFound):
        status.job_status(unknown)


def test_jobs_of_the_other_database_are_found() -> None:
    handle = jobs.noop.using(database="other").enqueue()
    assert status.job_status(handle.id)["state"] == "waiting"


def test_plain_rq_jobs_are_found_by_both_ids(books: Books) -> None:
    foreign = django_rq.get_queue("default").enqueue(jobs.foreign_add, 1)
    work()
    books.fold()
    record = JobRecord.objects.get()
    for job_id in (foreign.id, str(record.pk)):
        assert status.job_status(job_id)["state"] == "completed"


def test_redis_away(books: Books, use_redis: UseRedis) -> None:
    handle = jobs.noop.enqueue()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    found = status.job_status(handle.id)
    assert found["state"] == "waiting"
    assert "Redis is unavailable" in found["problem"]


@pytest.mark.parametrize(
    "corrupt", ["another type", "unknown status", "bad number", "bad result", "bad time"]
)
def test_a_corrupt_hash(books: Books, redis_client: redis.Redis, corrupt: str) -> None:
    handle = jobs.noop.enqueue()
    key = keys.job(handle.id)
    match corrupt:
        case "another type":
            redis_client.delete(key)
            redis_client.lpush(key, "what?")
        case "unknown status":
            redis_client.hset(key, "status", "puzzled")
        case "bad number":
            redis_client.hset(key, job_hash.PROGRESS, "half")
        case "bad result":
            redis_client.hset(key, job_hash.RESULT, "{")
        case "bad time":
            redis_client.hset(key, "started_at", "yesterday")
    found = status.job_status(handle.id)
    assert found["state"] == "waiting"
    assert "cannot be read" in found["problem"]


# --- metrics --------------------------------------------------------------------------------------


def test_queue_metrics(books: Books) -> None:
    jobs.add.enqueue_bulk([{"a": 1}, {"a": 2}])
    work("reports")
    jobs.add.using(delay=3600).enqueue(a=1)
    jobs.add.using(priority=Priority.BULK).enqueue(a=1)
    jobs.add.enqueue(a=1)
    jobs.fail.using(queue="reports").enqueue()
    books.fold()
    Hand("reports").take()

    metrics = status.queue_metrics("reports")
    assert 0 <= metrics.pop("oldest_wait") < 60
    assert metrics == {
        "name": "reports",
        "waiting": 2,
        "active": 1,
        "completed": 2,
        "failed": 0,
        "delayed": 1,
        "total": 6,
        "blocked": 0,
        "paused": False,
    }
    assert JobQueue("reports").metrics()["total"] == 6
    assert status.queue_metrics("email")["oldest_wait"] is None


def test_an_unknown_queue() -> None:
    with pytest.raises(errors.UnknownQueue, match="did you mean 'email'"):
        status.queue_metrics("emial")


def test_all_queues_cost_one_query_and_one_round_trip(
    books: Books, round_trips: Any, settings: Any
) -> None:
    status.all_queue_metrics()  # loads the script
    with CaptureQueriesContext(connections["default"]) as captured, round_trips.counting() as trips:
        metrics = status.all_queue_metrics()
    assert [queue["name"] for queue in metrics] == list(settings.RQ_QUEUES)
    assert (len(captured), len(trips)) == (1, 1)


def test_reading_changes_nothing(books: Books, redis_client: redis.Redis) -> None:
    handles = [jobs.noop.enqueue(), jobs.noop.using(delay=60).enqueue()]
    Hand().take()
    before = dump(redis_client)
    rows = list(JobRecord.objects.order_by("pk").values())
    for _ in range(2):
        status.all_queue_metrics()
        for handle in handles:
            status.job_status(handle.id)
    assert dump(redis_client) == before
    assert list(JobRecord.objects.order_by("pk").values()) == rows


def test_metrics_while_redis_is_away(books: Books, use_redis: UseRedis) -> None:
    jobs.add.enqueue(a=1)
    work()
    books.fold()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    metrics = status.queue_metrics("reports")
    assert metrics["completed"] == 1
    assert metrics["waiting"] is metrics["total"] is metrics["oldest_wait"] is None
    assert "Redis is unavailable" in metrics["problem"]


def test_a_paused_queue(books: Books) -> None:
    queues.pause("email")
    assert status.queue_metrics("email")["paused"] is True


# --- GET status -----------------------------------------------------------------------------------


def test_the_requester_sees_status_data_and_result(ada: User) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    work()
    response = get(ada, handle)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    assert answer["id"] == str(handle)
    assert (answer["state"], answer["data"], answer["result"], answer["error"]) == (
        "completed",
        {"a": 2},
        3,
        None,
    )
    assert reverse("wellos_jobs:job-status", args=[handle]) == f"/jobs/{handle}/status"


def test_status_costs_one_query_and_one_round_trip_beside_the_session(
    ada: User, round_trips: Any
) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    client = Client()
    client.force_login(ada)
    with CaptureQueriesContext(connections["default"]) as captured, round_trips.counting() as trips:
        client.get(f"/jobs/{handle}/status")
    assert [query["sql"] for query in captured if "wellos" in query["sql"]][1:] == []
    assert len(captured) == 3  # session, user, job
    assert len(trips) == 1


def test_the_permission_shows_status_but_not_the_payload(ada: User) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    work()
    answer = get(user_with("view_jobrecord"), handle).json()
    assert (answer["state"], answer["data"], answer["result"]) == ("completed", None, None)
    answer = get(user_with("view_jobrecord", "view_payload"), handle).json()
    assert (answer["data"], answer["result"]) == ({"a": 2}, 3)


def test_the_hook_allows_more_users(settings: Any) -> None:
    handle = jobs.add.using(organization="acme").enqueue(a=2)
    member, stranger = User.objects.create_user("acme"), User.objects.create_user("globex")
    assert get(member, handle).status_code == 404
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "CAN_VIEW_JOB": "tests.views.test_status.yes"}
    assert get(member, handle).json()["data"] is None
    assert get(stranger, handle).status_code == 404
    assert get(None, handle).status_code == 404


@pytest.mark.parametrize("who", ["nobody", "stranger", "payload alone"])
def test_others_get_the_404_of_an_unknown_id(ada: User, who: str) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    user = {
        "nobody": lambda: None,
        "stranger": user_with,
        "payload alone": lambda: user_with("view_payload"),
    }[who]()
    refused, unknown = get(user, handle), get(user, ids.new_id())
    assert refused.status_code == unknown.status_code == 404
    assert refused.content == unknown.content == b"Job not found"
    assert refused.headers == unknown.headers
    assert refused["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "job_id",
    ["nonsense", "123", "%00", "01890000-0000-7000-8000-00000000000", "{x}", "ü", "a" * 400],
)
def test_malformed_ids(job_id: str) -> None:
    response = get(user_with("view_jobrecord"), job_id)
    assert (response.status_code, response.content) == (404, b"Job not found")


def test_a_job_without_a_requester(ada: User) -> None:
    assert get(None, jobs.noop.enqueue()).status_code == 404
    assert get(ada, jobs.noop.enqueue()).status_code == 404


def test_sensitive_values_are_masked_for_all(ada: User) -> None:
    handle = jobs.secret.using(requested_by=ada).enqueue(token="open sesame", fail=True)
    work()
    response = get(ada, handle)
    assert response.json()["data"] == {"token": "********", "fail": True}
    assert b"sesame" not in response.content
    assert "refused ********" in response.json()["error"]


def test_only_reading_methods(ada: User) -> None:
    handle = jobs.noop.using(requested_by=ada).enqueue()
    client = Client()
    client.force_login(ada)
    assert client.head(f"/jobs/{handle}/status").status_code == 200
    assert client.post(f"/jobs/{handle}/status").status_code == 405
    assert client.get(f"/jobs/{handle}/cancel").status_code == 405


def test_status_with_redis_away(ada: User, use_redis: UseRedis) -> None:
    handle = jobs.noop.using(requested_by=ada).enqueue()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    answer = get(ada, handle).json()
    assert answer["state"] == "waiting"
    assert "Redis is unavailable" in answer["problem"]


# --- a database that is away ----------------------------------------------------------------------


@contextmanager
def away(alias: str) -> Iterator[None]:
    """A database that cannot be reached from this thread."""
    connection = connections[alias]
    before = dict(connection.settings_dict)
    connection.close()
    if connection.vendor == "sqlite":
        connection.settings_dict["NAME"] = "/nowhere/db.sqlite3"
    else:
        connection.settings_dict["PORT"] = free_port()
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


def test_a_job_is_found_while_another_database_is_away() -> None:
    handle = jobs.noop.using(database="other").enqueue()
    with away("default"):
        assert status.job_status(handle.id)["state"] == "waiting"
    handle = jobs.noop.enqueue()
    with away("other"):
        assert status.job_status(handle.id)["state"] == "waiting"


def test_the_handle_of_a_failed_job_answers_while_its_database_is_away() -> None:
    handle = jobs.fail.enqueue("no luck")
    Hand().run()
    with away("default"):
        assert (handle.state, handle.error) == ("failed", "no luck")


@pytest.mark.parametrize("alias", ["default", "other"])
def test_a_job_that_may_be_in_an_unavailable_database(alias: str) -> None:
    with (
        away(alias),
        pytest.raises(errors.DatabaseUnavailable, match=f"may be in the database '{alias}'"),
    ):
        status.job_status(ids.new_id())
    with pytest.raises(errors.JobNotFound):
        status.job_status(ids.new_id())


@pytest.mark.parametrize("door", ["status", "events", "cancel"])
def test_503_not_404_while_a_database_is_unavailable(ada: User, door: str) -> None:
    client = Client()
    client.force_login(user_with("cancel_job"))
    ask = client.post if door == "cancel" else client.get
    with away("other"):
        response = ask(f"/jobs/{ids.new_id()}/{door}")
        assert (response.status_code, response["Retry-After"]) == (503, "5")
        assert "A database is unavailable" in response.json()["error"]
    assert ask(f"/jobs/{ids.new_id()}/{door}").status_code == 404
    with away("default"):  # nobody knows who asks, either
        assert ask(f"/jobs/{ids.new_id()}/{door}").status_code == 503


# --- POST cancel ----------------------------------------------------------------------------------


def test_the_requester_cancels(ada: User) -> None:
    handle = jobs.noop.using(requested_by=ada).enqueue()
    response = cancel(ada, handle, reason="changed my mind")
    assert (response.status_code, response.json()) == (
        200,
        {"id": str(handle), "state": "canceled"},
    )
    assert handle.state == JobState.CANCELED
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.reason, entry.address) == (
        "canceled",
        ada,
        "changed my mind",
        "127.0.0.1",
    )


def test_the_permission_cancels() -> None:
    assert cancel(user_with("cancel_job"), jobs.noop.enqueue()).status_code == 200


def test_viewing_does_not_allow_canceling(ada: User) -> None:
    handle = jobs.noop.using(requested_by=ada).enqueue()
    assert cancel(user_with("view_jobrecord"), handle).status_code == 403
    assert cancel(user_with(), handle).status_code == 404
    assert cancel(None, handle).status_code == 404
    assert handle.state == JobState.WAITING
    assert AuditEntry.objects.count() == 0


def test_cancel_needs_the_csrf_token(ada: User) -> None:
    handle = jobs.noop.using(requested_by=ada).enqueue()
    assert cancel(ada, handle, check_csrf=True).status_code == 403
    assert handle.state == JobState.WAITING


def test_cancel_of_a_final_job(ada: User) -> None:
    handle = jobs.noop.using(requested_by=ada).enqueue()
    work()
    response = cancel(ada, handle)
    assert response.status_code == 409
    assert "cannot be canceled" in response.json()["error"]


def test_cancel_with_redis_away(ada: User, use_redis: UseRedis) -> None:
    handle = jobs.noop.using(requested_by=ada).enqueue()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    response = cancel(ada, handle)
    assert response.status_code == 503
    assert json.loads(response.content)["error"].startswith("Redis is unavailable")


def test_cancel_of_an_unknown_id() -> None:
    response = cancel(user_with("cancel_job"), "nonsense")
    assert (response.status_code, response.content) == (404, b"Job not found")


def test_a_canceled_job(ada: User) -> None:
    handle = jobs.noop.using(requested_by=ada).enqueue()
    operations.cancel(handle.record())
    assert get(ada, handle).json()["state"] == "canceled"
    assert JobHandle(handle.id, "default").state == JobState.CANCELED
