"""Saved views of the change lists: save, open, share, rename, delete."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from wellos_jobs.models import JobRecord, SavedView
from wellos_jobs.states import JobState

from ..support.browser import axe, login, narrow
from ..support.users import text

pytestmark = pytest.mark.django_db(transaction=True)
JOBS = "/admin/wellos_jobs/jobrecord/"
OF_DJANGO = ("label-title-only",)  # the search field of Django's lists


def staff(name: str, *permissions: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def made(count: int = 1, **values: Any) -> list[JobRecord]:
    base = {
        "name": "test-noop",
        "queue": "default",
        "state": JobState.COMPLETED,
        "created_at": timezone.now(),
    }
    return JobRecord.objects.bulk_create(JobRecord(**{**base, **values}) for _ in range(count))


def keep(client: Client, name: str, query: str, **more: str) -> Any:
    return client.post(f"{JOBS}views/", {"action": "save", "name": name, "query": query, **more})


def test_a_view_is_saved_opened_and_deleted(root: Client) -> None:
    response = keep(root, "broken mails", "state__exact=failed&queue=email&p=3")
    assert response["Location"] == f"{JOBS}?queue=email&state__exact=failed"
    shown = root.get(response["Location"])
    assert (
        'href="?queue=email&amp;state__exact=failed" aria-current="true">broken mails</a>'
        in shown.content.decode()
    )
    view = SavedView.objects.get()
    keep(root, "broken mails", "queue=email")
    view.refresh_from_db()
    assert view.query == "queue=email"
    root.post(f"{JOBS}views/", {"action": "delete", "view": view.pk})
    assert not SavedView.objects.exists()


def test_views_are_private_unless_shared(root: Client) -> None:
    keep(root, "mine", "queue=email")
    ann = staff("ann", "view_jobrecord")
    assert "mine" not in text(ann.get(JOBS))
    view = SavedView.objects.get()
    root.post(f"{JOBS}views/", {"action": "share", "view": view.pk})
    shown = ann.get(JOBS).content.decode()
    assert ">mine</a>" in shown
    assert "Change view mine" not in shown
    for action in ("delete", "share", "rename", "overwrite"):
        assert ann.post(f"{JOBS}views/", {"action": action, "view": view.pk}).status_code == 404
    assert SavedView.objects.get().shared


def test_views_belong_to_their_list(root: Client) -> None:
    keep(root, "jobs only", "queue=email")
    assert "jobs only" in text(root.get(JOBS))
    assert "jobs only" not in text(root.get("/admin/wellos_jobs/deadletter/"))


@pytest.mark.parametrize("name", ["", " ", "x" * 81])
def test_a_view_needs_a_name(root: Client, name: str) -> None:
    assert keep(root, name, "queue=email").status_code == 302
    assert not SavedView.objects.exists()
    assert "Enter a name" in text(root.get(JOBS))


def change(client: Client, action: str, view: SavedView, **more: str) -> Any:
    return client.post(f"{JOBS}views/", {"action": action, "view": view.pk, **more})


def test_a_view_is_renamed_and_overwritten(root: Client) -> None:
    keep(root, "mails", "queue=email")
    view = SavedView.objects.get()
    change(root, "share", view)
    renamed = change(root, "rename", view, name=" broken mails ", query="state__exact=failed")
    assert renamed["Location"] == f"{JOBS}?state__exact=failed", "the list stays as it was"
    assert "The view “mails” was renamed to “broken mails”" in text(root.get(JOBS))
    given = change(root, "overwrite", view, query="state__exact=failed&queue=email&p=2")
    assert given["Location"] == f"{JOBS}?queue=email&state__exact=failed"
    view.refresh_from_db()
    assert (view.name, view.query, view.shared) == (
        "broken mails",
        "queue=email&state__exact=failed",
        True,
    )
    assert SavedView.objects.count() == 1


def test_a_view_needs_a_unique_name(root: Client) -> None:
    keep(root, "first", "queue=email")
    keep(root, "second", "queue=slow")
    view = SavedView.objects.get(name="first")
    change(root, "rename", view, name="second")
    assert "You already have a view named “second”" in text(root.get(JOBS))
    for name in ("", " ", "x" * 81):
        change(root, "rename", view, name=name)
        assert "Enter a name" in text(root.get(JOBS))
    assert sorted(SavedView.objects.values_list("name", "query")) == [
        ("first", "queue=email"),
        ("second", "queue=slow"),
    ]
    assert change(root, "burn", view).status_code == 400


def test_saving_a_view_needs_the_view_permission() -> None:
    assert keep(staff("ann", "view_deadletter"), "x", "").status_code == 403
    assert Client().post(f"{JOBS}views/").status_code == 302


ORGANIZATIONS = {"ann": ["acme"], "bob": ["acme", "globex"], "eve": ["globex"], "kim": ["acme"]}


def organizations_of(user: Any) -> list[str] | None:
    """An ``ADMIN_ORGANIZATIONS``; zoe, who is not named, sees all."""
    return ORGANIZATIONS.get(user.username)


def test_shared_views_do_not_cross_the_border_of_organizations(root: Client, settings: Any) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": f"{__name__}.organizations_of",
    }
    clients = {name: staff(name, "view_jobrecord") for name in (*ORGANIZATIONS, "zoe")}
    for name, client in clients.items():
        keep(client, f"of-{name}", "queue=email", shared="on")

    shown = {
        "ann": {"ann", "kim", "zoe"},
        "bob": {"ann", "bob", "eve", "kim", "zoe"},
        "eve": {"eve", "zoe"},
        "zoe": {*ORGANIZATIONS, "zoe"},
    }
    for name, expected in shown.items():
        page = text(clients[name].get(JOBS))
        assert {other for other in clients if f"of-{other}" in page} == expected, name
    assert "of-ann" in text(root.get(JOBS))

    User.objects.filter(username="kim").update(is_active=False)
    assert "of-kim" not in text(clients["ann"].get(JOBS))


@pytest.mark.browser
def test_a_view_in_the_browser(page: Any) -> None:
    made(2, state=JobState.FAILED, error="away")
    login(page, User.objects.create_superuser("root"))
    page.goto(f"{JOBS}?state__exact=failed")
    axe(page, without=OF_DJANGO)
    narrow(page)
    page.get_by_text("Save this view").click()
    page.get_by_label("View name").fill("what failed")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("The view “what failed” was saved").wait_for()
    page.goto(JOBS)
    page.get_by_role("link", name="what failed").click()
    page.wait_for_url("**state__exact=failed**")
    axe(page, without=OF_DJANGO)
    page.goto(f"{JOBS}?queue=email")
    page.get_by_label("Change view what failed").click()
    axe(page, without=OF_DJANGO)
    page.get_by_label("Name", exact=True).fill("mails")
    page.get_by_role("button", name="Rename").click()
    page.get_by_text("was renamed to “mails”").wait_for()
    page.get_by_label("Change view mails").click()
    page.get_by_role("button", name="Update to current filters").click()
    page.get_by_text("The view “mails” now has the current filters").wait_for()
    assert SavedView.objects.get().query == "queue=email"
