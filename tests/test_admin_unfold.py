"""The admin's pages under django-unfold, in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from wellos_jobs.models import JobRecord

from . import jobs
from .browser import login
from .engine import Books, work
from .processes import Fleet
from .servers import free_port

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.unfold_settings"}


@pytest.fixture
def root(processes: Fleet, settings: Any) -> User:
    """A superuser, and a job that failed."""
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    jobs.fail.using(max_attempts=1).enqueue()
    work()
    Books().fold()
    return User.objects.create_superuser("root")


def test_each_page_answers_and_looks_like_unfold(root: User, processes: Fleet) -> None:
    asking = processes.start("-m", "tests.unfold_site", environment=SETTINGS)
    assert asking.wait(60) == 0, asking.output()
    answers = [line.split() for line in asking.output().splitlines() if line.startswith(("2", "3", "4", "5"))]
    assert len(answers) > 7
    assert {tuple(answer[:3]) for answer in answers} == {("200", "unfold", "ours")}, asking.output()


@pytest.mark.browser
def test_retry_in_the_browser(root: User, processes: Fleet, chromium: Any) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = processes.manage("runserver", address, "--noreload", "--insecure", environment=SETTINGS)
    server.wait_for_output("Quit the server")
    page = chromium.new_context(base_url=f"http://{address}").new_page()
    login(page, root)
    page.goto(f"/admin/wellos_jobs/jobrecord/{JobRecord.objects.get().pk}/change/")
    page.get_by_role("link", name="Retry").click()
    page.get_by_label("Reason").fill("the partner is back")
    page.get_by_role("button", name="Retry").click()
    page.get_by_text("The job runs again").wait_for()
