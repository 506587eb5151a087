"""A session that ends while a page refreshes itself: the page stays as it is and says so."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.urls import reverse

from ..jobs import noop
from ..support.browser import login

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", ["workers", "jobrecord_changelist"])
def test_the_page_stays_and_leads_to_the_login(page: Any, name: str) -> None:
    """Neither is the login page shown within the page, nor do the rows vanish."""
    root = User.objects.create_superuser("root", password="secret")
    noop.enqueue_bulk([{}] * 3)
    login(page, root)
    page.goto(reverse(f"admin:wellos_jobs_{name}"))
    part = page.locator("[data-wj-live]")
    rows = part.locator("tr").count()

    Session.objects.all().delete()
    with page.expect_response("**/login/**"):
        page.get_by_label("Refresh").select_option("1")
    page.get_by_text("Your session has ended.").wait_for()

    assert page.locator("input[name=password]").count() == 0
    assert part.count() == 1
    assert part.locator("tr").count() == rows

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(1500)  # longer than a refresh takes to come
    assert asked == []

    place = page.url
    page.get_by_role("link", name="Log in again").click()
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(place)


def test_an_error_is_no_end_of_the_session(page: Any) -> None:
    user = User.objects.create_superuser("root")
    login(page, user)
    page.goto(reverse("admin:wellos_jobs_workers"))
    User.objects.update(is_superuser=False)

    page.get_by_label("Refresh").select_option("1")

    page.get_by_text("no answer", exact=True).wait_for()
    page.complaints.clear()  # the console has the 403
