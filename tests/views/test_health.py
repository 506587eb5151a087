"""The health URLs: 200 or 503, words for anybody, details for some, and an answer however the rest
hangs."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.urls import resolve, reverse

from wellos_jobs.monitoring import health

from .. import jobs
from ..monitoring.test_health import black_hole, paused, probing, timed
from ..support.processes import Fleet, wait_until
from ..support.servers import RedisServer
from .test_status import user_with

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

TOKEN = "a token for the monitor"


def get(path: str, user: User | None = None, **headers: str) -> Any:
    client = Client()
    if user is not None:
        client.force_login(user)
    return client.get(f"/jobs/health/{path}", headers=headers)


@pytest.fixture
def token(settings: Any) -> dict[str, str]:
    """Headers of a monitor that knows the token."""
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "HEALTH_TOKEN": TOKEN}
    return {"Authorization": f"Bearer {TOKEN}"}


def test_the_names_and_their_order() -> None:
    for name in ("live", "ready", "backlog"):
        assert reverse(f"wellos_jobs:health-{name}") == f"/jobs/health/{name}"
        assert resolve(f"/jobs/health/{name}").view_name == f"wellos_jobs:health-{name}"
    assert resolve("/jobs/health/status").view_name == "wellos_jobs:job-status"


def test_live_queries_nothing(
    redis_server: RedisServer, django_assert_num_queries: Any, round_trips: Any
) -> None:
    redis_server.stop()
    with django_assert_num_queries(0), round_trips.counting() as trips:
        response = get("live")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (trips, response["Cache-Control"]) == ([], "no-store")


def test_ready_shows_only_status_words_to_everyone() -> None:
    jobs.noop.enqueue()
    response = get("ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "checks": {
            "database": "ok",
            "relay": "ok",
            "redis": "ok",
            "memory": "ok",
            "eviction": "ok",
            "persistence": "warning",
            "leader": "critical",
            "ledger": "ok",
            "stream": "ok",
            "scheduler": "ok",
            "schedules": "ok",
            "workers": "critical",
            "backlog": "ok",
            "imports": "ok",
        },
    }
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "code", "status"),
    [
        ("check=workers", 503, "critical"),
        ("check=ledger&check=persistence", 200, "warning"),
        ("check=database&check=leader", 503, "critical"),
        ("check=all", 503, "critical"),
    ],
)
def test_ready_by_other_checks(query: str, code: int, status: str) -> None:
    jobs.noop.enqueue()
    response = get(f"ready?{query}")
    assert (response.status_code, response.json()["status"]) == (code, status)


def test_an_unknown_check() -> None:
    response = get("ready?check=databases")
    assert response.status_code == 400
    assert "There is no check 'databases': use one of database, " in response.json()["error"]


def test_redis_away(redis_server: RedisServer) -> None:
    redis_server.stop()
    response = get("ready")
    assert (response.status_code, response.json()["status"]) == (503, "critical")
    assert response.json()["checks"]["redis"] == "critical"
    assert response.json()["checks"]["database"] == "ok"
    assert get("ready?check=database").status_code == 200
    assert get("ready?check=ledger").status_code == 503  # nobody knows
    assert (get("backlog").status_code, get("backlog").json()) == (503, {"status": "unknown"})


def test_redis_does_not_respond(redis_server: RedisServer) -> None:
    with paused(redis_server.pid), timed():
        assert get("ready").status_code == 503
        assert get("backlog").status_code == 503
        assert get("live").status_code == 200


def test_the_database_does_not_respond_to_a_request_with_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The user is in the database, so the session is not read."""
    pytest.importorskip("psycopg")
    client = Client()
    client.force_login(user_with("view_jobrecord"))
    with black_hole() as port:
        silent = {
            **connections.settings["default"],
            "ENGINE": "django.db.backends.postgresql",
            "PORT": port,
        }
        silent |= {"HOST": "127.0.0.1", "NAME": "nothing", "USER": "nobody", "OPTIONS": {}}
        monkeypatch.setitem(connections.settings, "default", silent)
        with timed():
            response = client.get("/jobs/health/ready")
            assert (response.status_code, response.json()["checks"]["database"]) == (
                503,
                "critical",
            )
            assert "details" not in response.json()
            assert "queues" not in client.get("/jobs/health/backlog").json()
        monkeypatch.undo()
    wait_until(lambda: not probing(), 10, "the threads to end")


def test_backlog(settings: Any, token: dict[str, str]) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BACKLOG_ALERTS": {"waiting": 2}}
    jobs.noop.enqueue_bulk([{}, {}])
    assert (get("backlog").status_code, get("backlog").json()) == (200, {"status": "ok"})
    jobs.noop.enqueue()
    response = get("backlog")
    assert (response.status_code, response.json()) == (503, {"status": "warning"})
    (queue,) = get("backlog", **token).json()["queues"]
    assert (queue["name"], queue["waiting"]) == ("default", 3)
    assert queue["text"].startswith("3 jobs wait")


def test_details_are_for_the_token_and_the_permission(token: dict[str, str]) -> None:
    found = get("ready", **token).json()["details"]
    assert found[0] == {**found[0], "name": "database", "where": "default", "status": "ok"}
    assert {one["name"] for one in found} == set(health.NAMES)
    assert "details" in get("ready", user_with("view_jobrecord")).json()
    for refused in (
        {"Authorization": "Bearer no"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {},
    ):
        assert "details" not in get("ready", **refused).json()
    assert "details" not in get("ready", user_with("view_payload")).json()


def test_without_a_configured_token_none_is_valid() -> None:
    for header in ("Bearer ", "Bearer None", "Bearer"):
        assert "details" not in get("ready", Authorization=header).json()


def test_only_reading_methods() -> None:
    assert Client().head("/jobs/health/ready").status_code == 200
    assert Client().post("/jobs/health/ready").status_code == 405


def test_a_complete_fleet_passes_every_check(processes: Fleet, redis_server: RedisServer) -> None:
    processes.worker()
    processes.wait_until(lambda: get("ready?check=all").status_code == 200, 30)
    redis_server.stop()
    assert get("ready").status_code == 503
    redis_server.start()
    processes.wait_until(lambda: get("ready?check=all").status_code == 200, 30)
