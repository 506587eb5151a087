"""Every page of the table in a real browser: light, dark and on a phone; strict policy, clean console, axe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.core.management import call_command
from django.test.utils import override_settings
from django.urls import URLPattern, get_resolver
from pytest_django.live_server_helper import LiveServer

from wellos_jobs.models import JobRecord
from wellos_jobs.states import JobState

from . import admin_pages, optional
from .admin_pages import ACTS, FILES, PAGES, REFUSED, AdminPage
from .browser import FLAGS, TIMEOUT, axe, login, watch

PHONE = {"width": 360, "height": 800}
DESK = {"width": 1280, "height": 900}
OF_DJANGO = ("label-title-only",)
"""The rule that the search field of Django's lists breaks."""
FRAME_OF_DJANGO = (*OF_DJANGO, "link-in-text-block")
"""And the one that Django's breadcrumbs break, on pages that are all Django's."""


@pytest.fixture
def _empty_redis() -> None:
    """Leave Redis as the module's ``filled`` made it."""


@pytest.fixture(scope="module")
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The database of all tests here: what they find in it stays, and it is emptied after the last of them."""
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(scope="module")
def filled(transactional_db: None) -> Iterator[Any]:
    """A superuser, on a database and a Redis with something on each page."""
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        client.flushall()
    quiet = {**django_settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    with override_settings(WELLOS_JOBS=quiet), admin_pages.report_kinds():
        yield admin_pages.fill()


@pytest.fixture(scope="module")
def sheet(filled: Any) -> Iterator[Any]:
    """One page of one browser on one site, logged in, for all tests here."""
    from playwright.sync_api import sync_playwright

    server = LiveServer("localhost")
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright keeps an event loop running in this thread
        browser = playwright.chromium.launch(executable_path=optional.chromium(), args=FLAGS)
        context = browser.new_context(base_url=str(server.url), viewport=DESK, locale="en-GB", color_scheme="light")
        context.set_default_timeout(TIMEOUT)
        context.add_init_script("localStorage.setItem('wellos_jobs.refresh', '0')")
        page = context.new_page()
        page.complaints = watch(page, str(server.url))
        login(page, filled)
        yield page
        browser.close()
    server.stop()


@pytest.mark.browser
@pytest.mark.parametrize("entry", PAGES, ids=str)
def test_each_page_in_the_browser(sheet: Any, entry: AdminPage) -> None:
    del sheet.complaints[:]
    sheet.emulate_media(color_scheme="light")
    response = sheet.goto(entry.url())
    assert response.status == 200
    assert "default-src 'self'" in response.headers["content-security-policy"]
    axe(sheet, without=FRAME_OF_DJANGO if entry.is_django_s else OF_DJANGO)
    sheet.emulate_media(color_scheme="dark")
    axe(sheet, only=("color-contrast",))
    sheet.set_viewport_size(PHONE)
    wide = sheet.evaluate("document.documentElement.scrollWidth")
    sheet.set_viewport_size(DESK)
    assert wide <= PHONE["width"], f"{sheet.url} is {wide} px wide on a phone"
    assert not sheet.complaints


def test_the_table_has_a_job_in_each_state(filled: Any) -> None:
    found = set(JobRecord.objects.values_list("state", flat=True))
    assert found == set(JobState)
    assert {page.label for page in PAGES if page.name == "jobrecord_change"} == {*JobState, "foreign"}


def test_no_page_is_missing_in_the_table() -> None:
    named = {page.name for page in (*PAGES, *FILES)} | ACTS | REFUSED
    registered = set(_names(get_resolver().url_patterns))
    assert registered - named == set(), "what is registered and not in tests/admin_pages.py"
    assert named - registered - {"app_list"} == set(), "what is in tests/admin_pages.py and not registered"


def _names(patterns: list[Any]) -> Iterator[str]:
    for pattern in patterns:
        if not isinstance(pattern, URLPattern):
            yield from _names(pattern.url_patterns)
        elif (pattern.name or "").startswith(admin_pages.PREFIX):
            yield str(pattern.name).removeprefix(admin_pages.PREFIX)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_rows_are_neither_added_nor_deleted(filled: Any, client: Any, name: str) -> None:
    model = name.rpartition("_")[0]
    change = next(page for page in PAGES if page.name == f"{model}_change")
    arguments = () if name.endswith("_add") else change.arguments
    client.force_login(filled)
    assert client.get(AdminPage(name, arguments or tuple).url()).status_code == 403
