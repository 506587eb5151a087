"""The example's site in a real browser: live progress, CSV import, access, phones, axe."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from example_project.demo import partner as partner_module
from example_project.demo.partner import Partner

from ..support import demo_process
from ..support.browser import TIMEOUT, axe, narrow, watch
from ..support.demo_process import Demo
from ..support.processes import wait_until
from ..support.servers import free_port

pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.timeout(300)]

PATIENCE = 60_000
"""Timeout in milliseconds, for busy machines."""
NOTE_EVENTS = """
window.seen = [];
document.addEventListener("wellos:job", (event) => {
  window.seen.push([event.detail.state, event.detail.progress, event.detail.attempts]);
});
"""
PAGES = [
    "",
    "invoices/",
    "invoices/1/",
    "time/",
    "time/import",
    "reports/",
    "reports/schedule",
    "jobs/",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo that has finished its scenario and serves the site."""
    with Demo(tmp_path_factory.mktemp("demo") / "state") as running:
        running.wait_until_played()
        yield running


Visit = Callable[..., Any]


@pytest.fixture
def visit(demo: Demo, chromium: Any) -> Iterator[Visit]:
    """``visit("ada.acme")``: a page in a new browser context, logged in as this user.

    Errors in the console fail the test."""
    pages: list[Any] = []

    def open_page(user: str = "", *, site: str = demo.site, **options: Any) -> Any:
        context = chromium.new_context(
            base_url=site, viewport={"width": 1280, "height": 900}, **options
        )
        context.set_default_timeout(TIMEOUT)
        context.add_init_script(NOTE_EVENTS)
        page = context.new_page()
        page.complaints = watch(page, site)
        pages.append(page)
        if user:
            page.goto("/login")
            page.get_by_label("Username").fill(user)
            page.get_by_label("Password").fill(demo.secret("people-password"))
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url("**/o/*/")
        return page

    yield open_page
    complaints = [complaint for page in pages for complaint in page.complaints]
    assert not complaints, "\n".join(complaints)


def shell(demo: Demo, code: str) -> str:
    """Run code in the example's shell; return what it printed last."""
    process = demo_process.manage(demo.folder, "shell", "-c", code)
    try:
        assert process.wait(60) == 0, process.output()
        return process.output().splitlines()[-1]
    finally:
        process.log_path.unlink()


def pause(demo: Demo, queue: str) -> None:
    shell(demo, f"from wellos_jobs import operations\nprint(operations.pause_queue({queue!r}))")


def resume(demo: Demo, queue: str) -> None:
    shell(demo, f"from wellos_jobs import operations\nprint(operations.resume_queue({queue!r}))")


def jobs_redis(demo: Demo) -> redis.Redis:
    port = int((demo.folder / "valkey" / "port").read_text())
    return redis.Redis(port=port, password=demo.secret("valkey"), db=1)


def seen_by(page: Any) -> list[list[Any]]:
    """Return the updates that the page has received: state, progress, attempts."""
    return list(page.evaluate("window.seen"))


def ask_for_report(page: Any) -> None:
    page.goto("/o/acme/reports/")
    page.get_by_role("button", name="Make the report").click()
    page.wait_for_url("**/jobs/*/")


def download(page: Any) -> bytes:
    """Click the link to the result and return the file."""
    with page.expect_download() as started:
        page.get_by_role("link", name="Open the result").click()
    return Path(started.value.path()).read_bytes()


def test_live_progress_of_a_report(demo: Demo, visit: Visit) -> None:
    page = visit("ada.acme")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    pause(demo, "reports")
    try:
        ask_for_report(page)
        page.locator("[data-wj-state]", has_text="waiting").wait_for()
        wait_until(lambda: seen_by(page), 30, "the first status")
    finally:
        resume(demo, "reports")
    page.get_by_role("link", name="Open the result").wait_for(timeout=PATIENCE)
    seen = seen_by(page)
    assert seen[0][:2] == ["waiting", 0]
    assert seen[-1][:2] == ["completed", 100]
    assert len(seen) > 2, seen
    assert "events" in asked
    assert "status" not in asked  # it was told, it did not ask
    assert page.get_by_role("button", name="Cancel").count() == 0
    assert download(page)[:5] == b"%PDF-"
    page.goto("/o/acme/reports/")
    page.get_by_role("link", name="Hours").first.wait_for()


def test_progress_without_streaming(demo: Demo, visit: Visit) -> None:
    port = free_port()
    server = demo_process.manage(demo.folder, "runserver", "--noreload", f"127.0.0.1:{port}")
    try:
        server.wait_for_output("Quit the server", 60)
        page = visit("ada.acme", site=f"http://127.0.0.1:{port}")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
        pause(demo, "reports")
        try:
            ask_for_report(page)
            wait_until(lambda: seen_by(page), 30, "the first status")
        finally:
            resume(demo, "reports")
        page.get_by_role("link", name="Open the result").wait_for(timeout=PATIENCE)
        assert "status" in asked
        assert download(page)[:5] == b"%PDF-"
    finally:
        server.end()


def test_the_stream_continues_after_a_worker_is_killed(
    demo: Demo, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partner_module, "PAGE_SECONDS", 0.4)
    page = visit("ada.acme")
    slow = Partner()
    slow.start()
    try:
        job = shell(
            demo,
            "from example_project.accounts.models import User\n"
            "from example_project.timesheets.jobs import import_time_entries\n"
            "from example_project.timesheets.models import Project\n"
            "project = Project.objects.filter(organization='acme').last()\n"
            "ada = User.objects.get(username='ada.acme')\n"
            "ask = import_time_entries.using(organization='acme', requested_by=ada)\n"
            f"print(ask.enqueue(project_id=project.pk, url='{slow.url}/time-entries'))",
        )
        page.goto(f"/o/acme/jobs/{job}/")
        page.evaluate("window.loadedOnce = true")
        wait_until(
            lambda: any(state == "active" and done >= 8 for state, done, _ in seen_by(page)),
            60,
            "progress",
        )
        with jobs_redis(demo) as client:
            worker = client.hget(f"rq:job:{job}", "worker_name").decode()
            pid = int(client.hget(f"rq:worker:{worker}", "pid"))
        os.kill(pid, signal.SIGKILL)
        page.locator("[data-wj-job][data-state=completed]").wait_for(timeout=PATIENCE)
    finally:
        slow.stop()
    assert page.evaluate("window.loadedOnce") is True
    seen = seen_by(page)
    assert {attempts for state, _, attempts in seen if state == "active"} == {1, 2}
    assert seen[-1] == ["completed", 100, 2]


def test_a_csv_file_of_ten_thousand_lines_is_imported_as_a_batch(
    demo: Demo, visit: Visit, tmp_path: Path
) -> None:
    page = visit("ada.acme")
    page.goto("/o/acme/time/import")
    with page.expect_download() as started:
        page.get_by_role("link", name="A file of 10,000 lines").click()
    file = tmp_path / "november.csv"
    started.value.save_as(file)
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Import").click()
    page.wait_for_url("**/time/imports/*/")
    page.get_by_role("heading", name="Imported", exact=True).wait_for(timeout=PATIENCE)
    for term, number in (
        ("Imported", "9998"),
        ("Here before", "0"),
        ("Rejected", "2"),
        ("Not processed", "0"),
    ):
        assert page.locator("dl div", has_text=term).locator("dd").inner_text() == number
    rows = page.locator("tbody tr").all_inner_texts()
    assert [re.split(r"\s+", row, maxsplit=1) for row in rows] == [
        ["6", "project: There is no project 'Moon base'."],
        ["11", "minutes: Ensure this value is greater than or equal to 1."],
    ]
    axe(page)
    narrow(page)
    page.get_by_role("link", name="Back to the time entries").click()
    page.get_by_role("heading", name="10").first.wait_for()


def test_a_canceled_import_shows_unprocessed_lines(demo: Demo, visit: Visit) -> None:
    page = visit("noah.acme")
    pause(demo, "batch")
    try:
        page.goto("/o/acme/time/import")
        with page.expect_download() as started:
            page.get_by_role("link", name="A file of 24 lines").click()
        content = Path(started.value.path()).read_bytes().replace(b"sample-", b"other-")
        page.get_by_label("CSV file").set_input_files(
            {"name": "x.csv", "mimeType": "text/csv", "buffer": content}
        )
        page.get_by_role("button", name="Import").click()
        page.get_by_text("0 of 24 lines").wait_for()
        axe(page)
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("1 jobs were canceled.").wait_for()
    finally:
        resume(demo, "batch")
    page.get_by_role("heading", name="Not completed").wait_for(timeout=PATIENCE)
    assert page.locator("dl div", has_text="Not processed").locator("dd").inner_text() == "24"


def test_two_organizations_cannot_see_each_others_jobs(demo: Demo, visit: Visit) -> None:
    acme, fjord = visit("ada.acme"), visit("ada.fjord")
    ask_for_report(acme)
    job = acme.url.rstrip("/").rpartition("/")[2]
    acme.get_by_role("link", name="Open the result").wait_for(timeout=PATIENCE)
    fjord.goto("/o/fjord/jobs/")
    assert fjord.get_by_text("None yet").count() == 1
    for path in (
        f"/o/acme/jobs/{job}/",
        f"/o/fjord/jobs/{job}/",
        f"/o/acme/reports/{job}/file",
        f"/o/fjord/reports/{job}/file",
        f"/jobs/{job}/status",
        f"/jobs/{job}/events",
        "/o/acme/",
        "/o/fjord/invoices/1/",
        "/o/fjord/time/imports/1/",
    ):
        assert fjord.request.get(path).status == 404, path
        own = path.replace("/o/fjord/", "/o/acme/")
        if "imports" not in path and "events" not in path:
            assert acme.request.get(own).status == 200, own
    colleague = visit("noah.acme")
    assert colleague.request.get(f"/o/acme/jobs/{job}/").status == 404
    assert (
        colleague.request.get(f"/o/acme/reports/{job}/file").status == 200
    )  # the report is the organization's


def test_the_schedule_form_has_a_preview(demo: Demo, visit: Visit) -> None:
    page = visit("ada.fjord")
    page.goto("/o/fjord/reports/schedule")
    page.get_by_text("At 07:00 on the 1st of every month.").wait_for()
    page.get_by_label("When").select_option(label="Every Monday")
    page.get_by_text("At 07:00 every Monday.").wait_for()
    page.get_by_label("Time zone").select_option("Asia/Tokyo")
    page.locator("[data-preview]", has_text="Asia/Tokyo").wait_for()
    page.get_by_label("When").select_option(label="By a cron line")
    page.get_by_label("Cron line").fill("99 * * * *")
    page.get_by_text("Shown here once").wait_for()
    page.get_by_role("button", name="Save").click()
    page.locator(".errorlist").wait_for()
    page.get_by_label("Cron line").fill("*/20 8-9 * * 1-5")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The schedule is set.").wait_for()
    page.goto("/o/fjord/")
    page.get_by_text("Next report").wait_for()


def test_the_keyboard_reaches_the_content(visit: Visit) -> None:
    page = visit("ada.acme")
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "Skip to content"
    assert focused.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_fits_on_a_phone(
    demo: Demo, visit: Visit, scheme: str
) -> None:
    page = visit(color_scheme=scheme)
    for path in ("/login", "/sign-up", "/password-reset"):
        _look(page, path)
    page = visit("ada.acme", color_scheme=scheme)
    for path in PAGES:
        _look(page, f"/o/acme/{path}")
    ask_for_report(page)
    page.get_by_role("link", name="Open the result").wait_for(timeout=PATIENCE)
    _look(page, page.url)
    empty = visit("ada.fjord", color_scheme=scheme)
    _look(empty, "/o/fjord/jobs/")


def _look(page: Any, path: str) -> None:
    page.goto(path)
    axe(page)
    narrow(page)
