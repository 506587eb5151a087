"""The admin's pages under django-unfold, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from wellos_jobs.models import JobRecord

from ..support import admin_pages
from ..support.admin_pages import PAGES
from ..support.browser import TIMEOUT, login, watch
from ..support.processes import Fleet
from ..support.servers import free_port

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.support.unfold_settings"}


@pytest.fixture
def filled(processes: Fleet, no_notices: None) -> Iterator[User]:
    """A superuser, and something on each page."""
    with admin_pages.report_kinds():
        yield admin_pages.fill()


@pytest.fixture
def unfolded(filled: User, processes: Fleet, chromium: Any) -> Any:
    """A page of a browser at a site with django-unfold, logged in."""
    address = f"127.0.0.1:{free_port()}"
    server = processes.manage(
        "runserver", address, "--noreload", "--insecure", environment=SETTINGS
    )
    server.wait_for_output("Quit the server")
    context = chromium.new_context(
        base_url=f"http://{address}", viewport={"width": 1280, "height": 900}
    )
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    page.complaints = watch(page, f"http://{address}")
    login(page, filled)
    return page


def test_each_page_answers_and_looks_like_unfold(filled: User, processes: Fleet) -> None:
    asking = processes.start("-m", "tests.support.unfold_site", environment=SETTINGS)
    assert asking.wait(60) == 0, asking.output()
    answers = [
        line.split()
        for line in asking.output().splitlines()
        if line.startswith(("2", "3", "4", "5"))
    ]
    assert len(answers) == len(PAGES)
    faults = [answer for answer in answers if answer[:3] != ["200", "unfold", "ours"]]
    assert not faults, asking.output()


@pytest.mark.browser
@pytest.mark.system
def test_each_page_in_the_browser(unfolded: Any) -> None:
    faults = []
    for entry in PAGES:
        response = unfolded.goto(entry.url())
        wide = unfolded.evaluate("document.documentElement.scrollWidth")
        if response.status != 200 or wide > 1280 or unfolded.complaints:
            faults.append(f"{entry}: {response.status}, {wide} px wide, {unfolded.complaints}")
            del unfolded.complaints[:]
    assert not faults, "\n".join(faults)


@pytest.mark.browser
def test_retry_in_the_browser(unfolded: Any) -> None:
    job = JobRecord.objects.filter(name="test-fail").latest("pk")
    unfolded.goto(f"/admin/wellos_jobs/jobrecord/{job.pk}/change/")
    unfolded.get_by_role("link", name="Retry").click()
    unfolded.get_by_label("Reason").fill("the partner is back")
    unfolded.get_by_role("button", name="Retry").click()
    unfolded.get_by_text("The job was retried").wait_for()
