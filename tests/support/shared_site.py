"""One site with something on each page, and one browser at it, for all tests of a module: fixtures
to import there.

Names of pytest-django and of ``conftest`` are taken over: neither the database nor Redis is emptied
between the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.core.management import call_command
from django.test.utils import override_settings
from pytest_django.live_server_helper import LiveServer

from . import admin_pages, optional_parts
from .browser import FLAGS, TIMEOUT, login, watch

DESK = {"width": 1280, "height": 900}


@pytest.fixture
def _empty_redis() -> None:
    """Leave Redis as the module's ``filled`` made it."""


@pytest.fixture(scope="module")
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The database of all tests here: what they find in it stays, and it is emptied after the last
    of them."""
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
        patch.setenv(
            "DJANGO_ALLOW_ASYNC_UNSAFE", "1"
        )  # Playwright keeps an event loop running in this thread
        browser = playwright.chromium.launch(executable_path=optional_parts.chromium(), args=FLAGS)
        context = browser.new_context(
            base_url=str(server.url), viewport=DESK, locale="en-GB", color_scheme="light"
        )
        context.set_default_timeout(TIMEOUT)
        context.add_init_script("localStorage.setItem('wellos_jobs.refresh', '0')")
        page = context.new_page()
        page.complaints = watch(page, str(server.url))
        login(page, filled)
        yield page
        browser.close()
    server.stop()
