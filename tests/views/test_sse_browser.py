"""Jobs on a page in a real browser: by events and by polling, over crashes, under a strict
policy."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from wellos_jobs import JobHandle

from .. import jobs
from ..support.browser import TIMEOUT, axe, login, narrow, watch
from ..support.engine import Hand, work
from ..support.processes import Fleet, wait_until
from ..support.sse import Server
from .test_sse import report, runner

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

Open = Callable[[Server], Any]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def open_page(chromium: Any, ada: User) -> Iterator[Open]:
    """``open_page(server)``: a page of Ada's on an ASGI server; ``page.asked`` are the paths it
    asks for."""
    opened: list[Any] = []

    def make(server: Server) -> Any:
        context = chromium.new_context(base_url=server.url, viewport={"width": 1280, "height": 900})
        context.set_default_timeout(TIMEOUT)
        page = context.new_page()
        login(page, ada)
        page.complaints = watch(page, server.url)
        page.asked = note(page)
        opened.append(page)
        return page

    yield make
    for one in opened:
        complaints = list(one.complaints)
        one.context.close()
        assert not complaints, "\n".join(complaints)


def note(page: Any) -> list[str]:
    """Collect the last parts of the paths that a page asks for: events, status."""
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url.rpartition("/")[2]))
    return asked


def address(*handles: JobHandle, **more: str) -> str:
    named = [
        *(f"job={handle}" for handle in handles),
        *(f"{name}={value}" for name, value in more.items()),
    ]
    return f"/progress?{'&'.join(named)}"


def shows(page: Any, state: str, percent: str, message: str = "") -> None:
    """Wait until the one job of a page is shown so."""
    from playwright.sync_api import expect

    page.wait_for_selector(f".wj-progress[data-state={state}]")
    expect(page.locator("[data-wj-percent]")).to_have_text(percent, timeout=TIMEOUT)
    expect(page.locator("[data-wj-message]")).to_have_text(message, timeout=TIMEOUT)


def link(page: Any) -> str | None:
    """Return where the link to the result leads, None when it is hidden."""
    found = page.locator("[data-wj-result]")
    return str(found.get_attribute("href")) if found.is_visible() else None


def test_a_page_follows_a_job_whose_worker_is_killed(
    processes: Fleet, open_page: Open, ada: User, tmp_path: Path
) -> None:
    server = Server(processes)
    go = tmp_path / "go"
    steps = [
        "progress:30:half way",
        f"on:1:wait_file:{tmp_path / 'never'}",
        "progress:60:again",
        f"wait_file:{go}",
    ]
    handle = jobs.scripted.using(requested_by=ada).enqueue(steps=[*steps, "result:done"])
    page = open_page(server)
    page.goto(address(handle, result_url="/files/report.pdf"))
    shows(page, "waiting", "0 %")
    processes.worker("--processes", "1")
    shows(page, "active", "30 %", "half way")
    assert page.locator("progress").evaluate("bar => bar.value") == 30
    assert page.locator("[data-wj-state]").inner_text() == "active"
    assert link(page) is None
    axe(page)
    narrow(page)
    os.kill(runner(handle), signal.SIGKILL)
    shows(page, "active", "60 %", "again")
    go.touch()
    shows(page, "completed", "100 %", "again")
    assert link(page) == f"{server.url}/files/report.pdf"
    axe(page)
    assert (page.asked.count("events"), page.asked.count("status")) == (1, 0)


def test_under_wsgi_it_polls(page: Any, ada: User) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    login(page, ada)
    asked = note(page)
    page.goto(address(handle))
    shows(page, "waiting", "0 %")
    hand = Hand()
    claim = hand.take()
    report(hand, claim, 40, "adding")
    shows(page, "active", "40 %", "adding")
    hand.run(claim)
    shows(page, "completed", "100 %", "adding")
    count = len(asked)
    page.wait_for_timeout(2500)  # longer than it polls: it has ended
    assert len(asked) == count
    assert asked.count("events") == 1


@pytest.mark.parametrize(
    ("url", "leads_to"),
    [
        ("/files/1.pdf", "{site}/files/1.pdf"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
    ],
)
def test_only_a_real_address_becomes_a_link(
    page: Any, site: str, ada: User, url: str, leads_to: str | None
) -> None:
    handle = jobs.echo.using(requested_by=ada).enqueue(value={"url": url, "size": 3})
    work()
    login(page, ada)
    page.goto(address(handle))
    shows(page, "completed", "100 %")
    if leads_to:
        page.wait_for_selector("[data-wj-result]:visible")
    else:
        page.wait_for_timeout(500)
    assert link(page) == (leads_to.format(site=site) if leads_to else None)


def test_an_error_message_is_shown_as_text(page: Any, ada: User, settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    handle = jobs.fail.using(requested_by=ada).enqueue(message="<img src=x onerror=alert(1)>")
    login(page, ada)
    page.goto(address(handle))
    work()
    shows(page, "failed", "0 %", "<img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0
    assert page.locator("[role=status][aria-live=polite]").count() == 1


def test_a_job_without_permission(page: Any, ada: User) -> None:
    handle = jobs.noop.enqueue()
    login(page, ada)
    page.goto(address(handle))
    page.get_by_text("This job is no longer available.").wait_for()
    page.complaints[:] = [text for text in page.complaints if "404" not in text]


def test_many_jobs_on_a_page_and_elements_that_come_and_go(
    processes: Fleet, open_page: Open, ada: User
) -> None:
    """Four streams, so that a browser's six connections are not used up; the others poll."""
    server = Server(processes)
    handles = [jobs.noop.using(requested_by=ada).enqueue() for _ in range(6)]
    page = open_page(server)
    page.goto(address(*handles))
    wait_until(lambda: page.wait_for_timeout(50) or page.asked.count("status") >= 2)
    assert page.asked.count("events") == 4
    page.evaluate("document.querySelectorAll('.wj-progress').forEach((one) => one.remove())")
    page.evaluate(
        """([id]) => {
          const one = document.createElement("p");
          Object.assign(one.dataset, {
            wjJob: id,
            wjEvents: `/jobs/${id}/events`,
            wjStatus: `/jobs/${id}/status`,
          });
          document.body.append(one);
        }""",
        [str(handles[0])],
    )
    page.wait_for_selector("p[data-state=waiting]", state="attached")
    assert page.asked.count("events") == 5
    polled = page.asked.count("status")
    page.wait_for_timeout(2500)
    assert page.asked.count("status") == polled
    processes.worker()
    page.wait_for_selector("p[data-state=completed]", state="attached")


def test_the_server_goes_away_and_comes_back(processes: Fleet, open_page: Open, ada: User) -> None:
    server = Server(processes)
    handle = jobs.noop.using(requested_by=ada).enqueue()
    page = open_page(server)
    page.goto(address(handle))
    shows(page, "waiting", "0 %")
    server.process.end()
    page.get_by_text("Connection lost. Retrying.").wait_for()
    server.start()
    shows(page, "waiting", "0 %")
    wait_until(lambda: page.wait_for_timeout(50) or server.connections() > 0)
    work()
    shows(page, "completed", "100 %")
    assert page.asked[-1] == "events"  # it streams again
    page.complaints[:] = [text for text in page.complaints if "net::ERR" not in text]
