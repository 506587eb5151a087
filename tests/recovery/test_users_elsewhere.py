"""Users in another database than the jobs: pages, and what remains when a user is deleted.

``default`` holds users and sessions, ``other`` the jobs. Neither must be asked for tables of the
other, which a real one does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import ProgrammingError, connections
from django.test import Client
from django.urls import reverse

from wellos_jobs import operations
from wellos_jobs.models import AuditEntry, DeadLetter, JobRecord, SavedView

from .. import jobs
from ..support.admin_pages import FILES, PAGES, fill, report_kinds
from ..support.engine import Books, work
from ..support.users import client_of

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class JobsRouter:
    """Knows the jobs only; about other apps it returns None."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "wellos_jobs" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
        return db == "other" if app_label == "wellos_jobs" else None


class AuthRouter:
    """As in Django's documentation: knows the users only."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "default" if model._meta.app_label in {"auth", "contenttypes", "sessions"} else None

    db_for_write = db_for_read


ROUTERS = {"only jobs": [JobsRouter()], "jobs and users": [JobsRouter(), AuthRouter()]}
TABLES = {"default": ("wellos_jobs_",), "other": ("auth_", "django_")}
"""What is in the other database, by alias."""


@contextmanager
def missing_tables() -> Iterator[None]:
    """As databases do, refuse queries of tables that are elsewhere."""

    def refuse(alias: str) -> Any:
        def execute(run: Any, sql: str, *more: Any) -> Any:
            for table in TABLES[alias]:
                # not the columns, and not how SQLite and MariaDB list tables
                if table in sql and "django_migrations" not in sql:
                    raise ProgrammingError(f"no such table in {alias}: {sql}")
            return run(sql, *more)

        return execute

    with ExitStack() as stack:
        for alias in TABLES:
            stack.enter_context(connections[alias].execute_wrapper(refuse(alias)))
        yield


@pytest.fixture(params=ROUTERS, autouse=True)
def apart(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    settings.DATABASE_ROUTERS = ROUTERS[request.param]
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_DATABASES": None, "NOTIFY_ADMINS": False}
    with missing_tables():
        yield


def test_every_page() -> None:
    with report_kinds():
        client = client_of(fill())
        for page in (*PAGES, *FILES):
            assert client.get(page.url()).status_code == 200, page
        for name, query in [("jobrecord", "q=requested_by:root"), ("deadletter", "q=root")]:
            url = reverse(f"admin:wellos_jobs_{name}_changelist")
            assert client.get(f"{url}?{query}").status_code == 200


def test_the_user_is_shown(root: Client) -> None:
    ada = User.objects.create_user("ada")
    handle = jobs.noop.using(requested_by=ada).enqueue()
    page = root.get(reverse("admin:wellos_jobs_jobrecord_change", args=[handle.id]))
    assert "ada" in page.content.decode()
    status = client_of(ada).get(reverse("wellos_jobs:job-status", args=[handle.id]))
    assert status.status_code == 200

    record = JobRecord.objects.get()
    assert record.requested_by == ada
    record.requested_by = root_user = User.objects.get(username="root")
    record.save()
    assert JobRecord.objects.get().requested_by == root_user
    assert record._state.db == "other"
    found = JobRecord.objects.prefetch_related("requested_by").get()
    assert found.requested_by == root_user


def _letter(user: User) -> DeadLetter:
    jobs.fail.using(requested_by=user).enqueue()
    work()
    Books().fold()
    letter = DeadLetter.objects.get()
    operations.assign([letter], user, by=user, reason="mine")
    operations.discard(letter, by=user)
    SavedView.objects.create(owner=user, page="jobrecord", name="mine", query="")
    return letter


def keys() -> set[Any]:
    """Return all that point to users."""
    letter = DeadLetter.objects.get()
    return {
        letter.assigned_to_id,
        letter.resolved_by_id,
        letter.job.requested_by_id,
        *AuditEntry.objects.values_list("actor_id", flat=True),
        *SavedView.objects.values_list("owner_id", flat=True),
    } - {None}


@pytest.mark.parametrize("how", ["row", "query", "admin"])
def test_a_deleted_user_is_forgotten(root: Client, how: str) -> None:
    ada, grace = (User.objects.create_user(name) for name in ("ada", "grace"))
    ada.groups.add(Group.objects.create(name="sales"))
    _letter(ada)
    SavedView.objects.create(owner=grace, page="jobrecord", name="hers", query="")
    assert keys() == {ada.pk, grace.pk}
    if how == "row":
        ada.delete()
    elif how == "query":
        User.objects.filter(username="ada").delete()
    else:
        url = reverse("admin:auth_user_delete", args=[ada.pk])
        assert root.get(url).status_code == 200
        assert keys() == {ada.pk, grace.pk}, "the page only asks"
        assert root.post(url, {"post": "yes"}).status_code == 302
    assert not User.objects.filter(username="ada").exists()
    assert keys() == {grace.pk}
    assert "ada" in AuditEntry.objects.values_list("actor_name", flat=True)


def test_a_user_who_is_gone_all_the_same(root: Client) -> None:
    """By SQL, or while the database of the jobs was not asked."""
    ada = User.objects.create_user("ada")
    letter = _letter(ada)
    User.objects.filter(pk=ada.pk)._raw_delete("default")  # type: ignore[attr-defined]
    assert DeadLetter.objects.get().assigned_to is None
    for name, pk in [("deadletter", letter.pk), ("jobrecord", letter.job_id)]:
        url = reverse(f"admin:wellos_jobs_{name}_change", args=[pk])
        assert root.get(url).status_code == 200
        assert root.get(reverse(f"admin:wellos_jobs_{name}_changelist")).status_code == 200
