"""Aliases that are not what they seem: one that holds no jobs and is away, two that lead to one
database, one that the settings forgot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.core import checks
from django.db import connections, transaction

from wellos_jobs import JobHandle, errors, status
from wellos_jobs.broker import keys
from wellos_jobs.checks import databases
from wellos_jobs.database import job_databases
from wellos_jobs.definitions import ids
from wellos_jobs.maintenance.housekeeping import Housekeeping
from wellos_jobs.models import JobRecord, LedgerCursor, SavedView
from wellos_jobs.monitoring import health
from wellos_jobs.processes.shared_memory import Slot

from .. import jobs
from ..support.engine import work
from ..support.rows import statistics
from ..support.servers import free_port
from ..views.test_status import away

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("no_notices"),
]


class Keeper(Housekeeping):
    """The leader's loops, round by round."""

    def _wait(self) -> None:
        return

    def rounds(self, count: int = 3) -> None:
        for _ in range(count):
            for part in self.databases:
                part._not_before = part._next_relay = 0.0
            self.round()


def keeper() -> Keeper:
    return Keeper("default", Slot())


def add_alias(alias: str, **changes: Any) -> None:
    connections.settings[alias] = {**connections["default"].settings_dict, **changes}


def forget_alias(alias: str) -> None:
    connections[alias].close()
    delattr(connections._connections, alias)
    del connections.settings[alias]


# --- an alias that is no concern of ours ----------------------------------------------------------


@pytest.fixture
def warehouse(settings: Any) -> Iterator[None]:
    """An alias without a router; its server is not there."""
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_DATABASES": None}
    nowhere = {"NAME": "/nowhere/db.sqlite3"} if connections["default"].vendor == "sqlite" else {}
    add_alias("warehouse", HOST="127.0.0.1", PORT=free_port(), **nowhere)
    try:
        yield
    finally:
        forget_alias("warehouse")


@pytest.mark.usefixtures("warehouse")
def test_an_alias_without_jobs_that_is_away(redis_client: redis.Redis) -> None:
    handle = jobs.noop.enqueue()
    work()
    keeper().rounds()
    assert JobRecord.objects.get(pk=handle.id).state == "completed"
    assert redis_client.xlen(keys.EVENTS) == 0, "the stream is trimmed"

    assert {check.where for check in health.report().named("database")} == {"default"}
    with pytest.raises(errors.JobNotFound):
        status.job_status(ids.new_id())
    with pytest.raises(errors.BadOption, match='name it in WELLOS_JOBS."JOB_DATABASES".'):
        jobs.noop.using(database="warehouse").enqueue()


# --- two aliases of one database ------------------------------------------------------------------


@pytest.fixture
def direct(settings: Any) -> Iterator[None]:
    """A second alias of ``default``."""
    add_alias("direct")
    connection = connections["direct"]

    def ensure_connection() -> None:
        """Connect: Django's tests refuse to, of an alias that was not there at their start."""
        if connection.connection is None:
            with connection.wrap_database_errors:
                connection.connect()

    connection.ensure_connection = ensure_connection  # type: ignore[method-assign]
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_DATABASES": ["direct", "default"]}
    try:
        yield
    finally:
        forget_alias("direct")


def both(count: int) -> list[JobHandle]:
    return [
        jobs.noop.using(database=alias).enqueue()
        for _ in range(count)
        for alias in ("default", "direct")
    ]


def states() -> set[str]:
    return set(JobRecord.objects.values_list("state", flat=True))


@pytest.mark.usefixtures("direct")
def test_two_aliases_of_one_database_have_one_set_of_books(redis_client: redis.Redis) -> None:
    assert job_databases() == ["default", "direct"]
    both(5)
    keeping = keeper()
    keeping.rounds()
    both(5)
    work()
    both(2)
    keeping.rounds()
    main, twin = keeping.databases
    assert (main.twin_of, twin.twin_of) == (None, main)
    work()
    keeping.rounds()

    assert states() == {"completed"}
    assert statistics("test-noop") == {"enqueued": 24, "started": 24, "completed": 24}
    assert redis_client.xlen(keys.EVENTS) == 0
    found = dict(LedgerCursor.objects.values_list("database", "position"))
    assert set(found) == {"default", "direct"}


@pytest.mark.usefixtures("direct")
def test_lost_rows_are_pushed_whichever_alias_is_away(redis_client: redis.Redis) -> None:
    handles = both(1)
    keeping = keeper()
    keeping.rounds()
    main, twin = keeping.databases

    redis_client.delete(*(keys.job(handle.id) for handle in handles))
    with away("default"):
        keeping.rounds()
        assert (main.is_open, twin.twin_of) == (False, None)
        keeping.rounds()
    assert all(redis_client.exists(keys.job(handle.id)) for handle in handles)

    keeping.rounds()
    assert (main.twin_of, twin.twin_of) == (twin, None)
    work()
    keeping.rounds()
    assert states() == {"completed"}


@pytest.mark.usefixtures("direct")
def test_the_check_of_the_settings_and_that_which_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids_of(databases.check_aliases()) == ["wellos_jobs.W007"]
    assert ids_of(databases.check_two_aliases(["default", "direct"])) == []

    monkeypatch.setattr(databases, "_is_same", lambda *_: False)  # as through a pooler
    assert ids_of(databases.check_two_aliases(["default", "direct"])) == []
    keeper().rounds()
    assert ids_of(databases.check_two_aliases(["default", "direct"])) == ["wellos_jobs.W007"]
    assert ids_of(databases.check_two_aliases(["default"])) == []
    assert ids_of(databases.check_two_aliases()) == []


def test_two_databases_are_two() -> None:
    keeping = keeper()
    keeping.rounds()
    assert [part.twin_of for part in keeping.databases] == [None, None]
    assert databases.check_aliases() == []
    assert databases.check_two_aliases(["default", "other"]) == []


def ids_of(messages: list[checks.CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def test_a_deleted_user_is_forgotten_in_all_databases_with_jobs() -> None:
    ada, grace = (User.objects.create_user(name) for name in ("ada", "grace"))
    for alias in ("default", "other"):
        for user in (ada, grace):
            jobs.noop.using(database=alias, requested_by=user).enqueue()
            SavedView.objects.using(alias).create(owner_id=user.pk, page="x", name="x", query="")
    with transaction.atomic():
        User.objects.filter(pk=ada.pk).delete()
    for alias in ("default", "other"):
        requesters = JobRecord.objects.using(alias).values_list("requested_by", flat=True)
        assert set(requesters) == {None, grace.pk}
        assert SavedView.objects.using(alias).get().owner_id == grace.pk

    User(pk=grace.pk, username="another grace").save(using="other")
    User.objects.using("other").all().delete()
    assert JobRecord.objects.filter(requested_by=grace.pk).count() == 1, "users are in default"


# --- an alias that the settings forgot ------------------------------------------------------------


def test_jobs_of_a_database_that_is_not_named(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process names it, this one does not."""
    jobs.noop.using(database="other").enqueue()
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_DATABASES": None}
    keeping = keeper()
    keeping.rounds()
    jobs.noop.enqueue()
    keeping.rounds()
    assert caplog.text.count("jobs were enqueued in the database 'other'") == 1


class ByTenant:
    """A router that changes its mind."""

    alias = "default"

    def db_for_write(self, model: Any, **_: Any) -> str:
        return self.alias


def test_a_router_that_changes_its_mind_needs_the_setting(settings: Any) -> None:
    by_tenant = ByTenant()
    settings.DATABASE_ROUTERS = [by_tenant]
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_DATABASES": None}
    jobs.noop.enqueue()
    by_tenant.alias = "other"
    with pytest.raises(errors.BadOption, match="the router writes jobs to 'other'"):
        jobs.noop.enqueue()
    assert status.queue_metrics("default")["waiting"] == 1
