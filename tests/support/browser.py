"""A real browser for the tests: Debian's chromium through Playwright, on a site with a strict
Content-Security-Policy.

``page`` fails its test when the browser complained: an error or a warning on its console, an
exception in a script, something the policy refused, or a request to another host. What a test
provokes on purpose it takes out of ``page.complaints``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from . import optional_parts

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOUD = {"error", "warning"}
TIMEOUT = 20_000
"""Milliseconds that the browser waits for anything, by default."""


class StrictPolicy(MiddlewareMixin):
    """Middleware: the policy of the settings. From Django 6.0 on Django's own takes this one's
    place."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        parts = django_settings.SECURE_CSP.items()
        response.headers.setdefault(
            "Content-Security-Policy",
            "; ".join(f"{name} {' '.join(sources)}" for name, sources in parts),
        )
        return response


@pytest.fixture
def chromium(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The browser. Playwright keeps an event loop running in this thread, which Django takes for an
    async context: so it is started for each test anew, and Django is told to let the test alone.
    """
    from playwright.sync_api import sync_playwright

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=optional_parts.chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def site(transactional_db: None, request: pytest.FixtureRequest) -> str:
    """The URL of a live server on this test's databases."""
    server = request.getfixturevalue("live_server")
    return str(server.url)


@pytest.fixture
def page(chromium: Any, site: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a context of its own, 1280 wide. ``page.goto("/path")`` leads to the live
    server."""
    context = chromium.new_context(
        base_url=site, viewport={"width": 1280, "height": 900}, locale="en-GB"
    )
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    page.complaints = watch(page, site)
    yield page
    complaints = list(page.complaints)
    context.close()
    assert not complaints, "\n".join(complaints)


def watch(page: Any, site: str) -> list[str]:
    """Collect what the browser complains of."""
    complaints: list[str] = []
    host = urlsplit(site).netloc

    def console(message: Any) -> None:
        if message.type in LOUD and not message.location.get("url", "").endswith("/favicon.ico"):
            complaints.append(f"console {message.type} on {page.url}: {message.text}")

    def asked(sent: Any) -> None:
        url = urlsplit(sent.url)
        if url.scheme in {"http", "https"} and url.netloc != host:
            complaints.append(f"a request to another host: {sent.url}")

    page.on("console", console)
    page.on("pageerror", lambda error: complaints.append(f"exception on {page.url}: {error}"))
    page.on("request", asked)
    return complaints


def login(page: Any, user: Any) -> None:
    """Let the browser be logged in as somebody."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = django_settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    cookie = {
        "name": django_settings.SESSION_COOKIE_NAME,
        "value": session.session_key,
        "url": base_url(page),
    }
    page.context.add_cookies([cookie])


def base_url(page: Any) -> str:
    """Return the URL of the site that a page was made for."""
    return str(page.context._impl_obj._options["baseURL"])


def axe(page: Any, *, without: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> None:
    """Fail on what axe-core finds serious or critical. ``without`` names rules that are not asked;
    ``only``, those."""
    from axe_playwright_python.sync_playwright import Axe

    options: dict[str, Any] = {
        "rules": {rule: {"enabled": False} for rule in without},
        "resultTypes": ["violations"],
    }
    if only:
        options["runOnly"] = {"type": "rule", "values": list(only)}
    page.evaluate(
        "Promise.all(document.getAnimations().map((one) => one.finished))"
    )  # colors glide to another scheme
    before = len(page.complaints)
    found = Axe().run(page, options=options).response["violations"]
    del page.complaints[before:]  # axe itself meets the policy where it looks at styles
    grave = [violation for violation in found if violation["impact"] in {"serious", "critical"}]
    told = [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: "
        + "; ".join(node["html"][:200] for node in violation["nodes"][:5])
        for violation in grave
    ]
    assert not told, f"{page.url}\n" + "\n".join(told)


def narrow(page: Any, width: int = 360) -> None:
    """Fail if the page, at the width of a phone, has to be moved sideways."""
    before = page.viewport_size
    page.set_viewport_size({"width": width, "height": 800})
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size(before)
    assert wide <= width, f"{page.url} is {wide} px wide on a screen of {width} px"
