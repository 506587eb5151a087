"""Takes the screenshots of the documentation: starts a demo and visits its pages with chromium.

    make screenshots                                                # into docs/screenshots/
    python -m example_project.demo.screenshots /tmp/shots overview  # some of them, elsewhere

To add a page, add a line to ``SHOTS``. Requires chromium, and Playwright and Pillow for Python.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROJECT = Path(__file__).resolve().parent.parent.parent
FOLDER = PROJECT / "docs" / "screenshots"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
DESKTOP, PHONE = 1280, 390
HEIGHT = 800
COLORS = 128
ADMIN = "admin"
DEMO_SECONDS = 180
PATIENCE = 60_000
"""Timeout of a page in milliseconds."""


@dataclass(frozen=True)
class Shot:
    """One screenshot. ``before`` prepares the page after it is opened."""

    name: str
    path: str
    user: str = "ada.acme"
    width: int = DESKTOP
    before: Callable[[Page], None] | None = None
    dark: bool = False


def ask_for_report(page: Page) -> None:
    page.get_by_role("button", name="Make the report").click()
    page.get_by_role("link", name="Open the result").wait_for()
    page.wait_for_timeout(400)  # the bar glides to its end


def issue(page: Page) -> None:
    page.get_by_role("button", name="Issue").click()
    page.get_by_text("is issued").wait_for()


def import_big_file(page: Page) -> None:
    _import(page, "A file of 10,000 lines")
    page.locator("progress:not([value='0'])").wait_for()


def import_small_file(page: Page) -> None:
    _import(page, "A file of 24 lines")
    page.get_by_role("heading", name="Imported", exact=True).wait_for()


def open_first(page: Page) -> None:
    page.locator("#result_list tbody th a").first.click()
    page.locator(".wj-navigation").wait_for()


def ask_for_priority(page: Page) -> None:
    page.locator("#action-toggle").check()
    page.locator(".actions .question a").click()  # not those of this page only
    page.locator("select[name=action]").select_option("change_priority")
    page.get_by_role("button", name="Go").click()
    page.get_by_label("Priority").select_option(label="low")
    page.get_by_label("Maximum rows per second").fill("50")
    page.get_by_label("Reason").fill("At the end of the month they can wait for the invoices.")


def change_priority(page: Page) -> None:
    ask_for_priority(page)
    page.locator("button.wj-go").click()
    page.wait_for_url("**/bulkoperation/**")
    page.locator("progress:not([value='0'])").first.wait_for()


def open_fault(page: Page) -> None:
    page.locator(".wj-faults tbody th a").first.click()
    page.wait_for_url(re.compile(r"/faults/[0-9a-f]+/"))


def open_flow(page: Page) -> None:
    page.locator("#wj-part table a").first.click()
    page.locator("#wj-part svg, #wj-part table").first.wait_for()


def _import(page: Page, link: str) -> None:
    with page.expect_download() as started:
        page.get_by_role("link", name=link).click()
    content = Path(started.value.path()).read_bytes()
    file = {"name": "november.csv", "mimeType": "text/csv", "buffer": content}
    page.get_by_label("CSV file").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Import").click()


SHOTS = [
    Shot("login", "/login", user=""),
    Shot("report", "/o/acme/reports/", before=ask_for_report),
    Shot("invoice", "/o/acme/invoices/3/", before=issue),
    Shot("import-result", "/o/acme/time/import", before=import_small_file),
    Shot("overview", "/o/acme/"),
    Shot("invoices", "/o/acme/invoices/"),
    Shot("time", "/o/acme/time/"),
    Shot("reports", "/o/acme/reports/"),
    Shot("schedule", "/o/acme/reports/schedule"),
    Shot("jobs", "/o/acme/jobs/"),
    Shot("overview-phone", "/o/acme/", width=PHONE),
    Shot("invoices-phone", "/o/acme/invoices/", width=PHONE),
    Shot("schedule-phone", "/o/acme/reports/schedule", width=PHONE),
    Shot("import-progress", "/o/acme/time/import", user="noah.acme", before=import_big_file),
    Shot("admin-overview", "/admin/wellos_jobs/queues/", user=ADMIN),
    Shot("admin-jobs", "/admin/wellos_jobs/jobrecord/", user=ADMIN),
    Shot(
        "admin-job",
        "/admin/wellos_jobs/jobrecord/?q=import-time-entries",
        user=ADMIN,
        before=open_first,
    ),
    Shot("admin-attempts", "/admin/wellos_jobs/jobattempt/", user=ADMIN),
    Shot("admin-letters", "/admin/wellos_jobs/deadletter/faults/?status=any", user=ADMIN),
    Shot(
        "admin-fault",
        "/admin/wellos_jobs/deadletter/faults/?status=any",
        user=ADMIN,
        before=open_fault,
    ),
    Shot("admin-letter", "/admin/wellos_jobs/deadletter/", user=ADMIN, before=open_first),
    Shot("admin-schedules", "/admin/wellos_jobs/schedule/", user=ADMIN),
    Shot(
        "admin-schedule",
        "/admin/wellos_jobs/schedule/?q=daily-revenue-report",
        user=ADMIN,
        before=open_first,
    ),
    Shot("admin-report-schedules", "/admin/wellos_jobs/organizationreportschedule/", user=ADMIN),
    Shot("admin-batches", "/admin/wellos_jobs/batch/", user=ADMIN),
    Shot("admin-batch", "/admin/wellos_jobs/batch/", user=ADMIN, before=open_first),
    Shot("admin-flow", "/admin/wellos_jobs/queues/flows/", user=ADMIN, before=open_flow),
    Shot("admin-limits", "/admin/wellos_jobs/queues/limits/", user=ADMIN),
    Shot("admin-workers", "/admin/wellos_jobs/queues/workers/", user=ADMIN),
    Shot("admin-statistics", "/admin/wellos_jobs/queues/statistics/", user=ADMIN),
    Shot("admin-confirm", "/admin/wellos_jobs/jobrecord/", user=ADMIN, before=ask_for_priority),
    Shot("admin-bulk", "/admin/wellos_jobs/jobrecord/", user=ADMIN, before=change_priority),
    Shot("admin-bulk-operations", "/admin/wellos_jobs/bulkoperation/", user=ADMIN),
    Shot("admin-audit", "/admin/wellos_jobs/auditentry/", user=ADMIN),
    Shot("admin-overview-dark", "/admin/wellos_jobs/queues/", user=ADMIN, dark=True),
    Shot("admin-overview-phone", "/admin/wellos_jobs/queues/", user=ADMIN, width=PHONE),
]


def main(arguments: Sequence[str]) -> int:
    folder = Path(arguments[0]) if arguments else FOLDER
    shots = [shot for shot in SHOTS if not arguments[1:] or shot.name in arguments[1:]]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("There is no chromium (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    with demo() as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for shot in shots:
            path = folder / f"{shot.name}.png"
            path.write_bytes(small(take(browser, shot, running)))
            print(f"{path}  {path.stat().st_size // 1024} KiB")
        browser.close()
    return 0


@dataclass(frozen=True)
class Running:
    """A demo that has played: where its site is, and the passwords by user name."""

    site: str
    passwords: dict[str, str]


@contextmanager
def demo() -> Iterator[Running]:
    """Run a demo in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="wellos-shots-") as folder:
        outside = {"DATABASE_URL", "REDIS_URL", "JOBS_REDIS_URL"}
        environment = {key: value for key, value in os.environ.items() if key not in outside}
        environment |= {"WELLOS_DEMO_DIR": folder, "PYTHONUNBUFFERED": "1"}
        log = Path(folder, "demo.log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(PROJECT / "manage.py"), "demo"],
                env=environment,
                stdout=output,
                stderr=output,
            )
        try:
            yield _wait_until_played(process, log)
        finally:
            process.terminate()
            process.wait()


def _wait_until_played(process: subprocess.Popen[bytes], log: Path) -> Running:
    deadline = time.monotonic() + DEMO_SECONDS
    while "press Ctrl-C" not in (text := log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The demo did not get to its end:\n{text}")
        time.sleep(0.2)
    site = re.search(r"site +(http://\S+?)/?\s", text)
    if site is None:
        raise RuntimeError(f"The demo does not say where its site is:\n{text}")
    return Running(site[1], dict(re.findall(r"^ {12}(\S+) +(\S+) ", text, re.MULTILINE)))


def take(browser: Browser, shot: Shot, running: Running) -> bytes:
    """Log in, open the page and return a screenshot."""
    context = browser.new_context(
        base_url=running.site,
        viewport={"width": shot.width, "height": HEIGHT},
        color_scheme="dark" if shot.dark else "light",
        locale="en-GB",
        timezone_id="Europe/London",
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    if shot.user == ADMIN:
        page.goto("/admin/login/")
        page.get_by_label("Username").fill(shot.user)
        page.get_by_label("Password").fill(running.passwords[shot.user])
        page.get_by_role("button", name="Log in").click()
        page.locator("#user-tools").wait_for()
    elif shot.user:
        page.goto("/login")
        page.get_by_label("Username").fill(shot.user)
        page.get_by_label("Password").fill(running.passwords[shot.user])
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Log out").wait_for()
    page.goto(shot.path)
    if shot.before is not None:
        shot.before(page)
    bottom = int(page.evaluate("document.body.getBoundingClientRect().bottom"))
    picture = page.screenshot(
        clip={"x": 0, "y": 0, "width": shot.width, "height": max(1, min(HEIGHT, bottom))}
    )
    context.close()
    return picture


def small(picture: bytes) -> bytes:
    """Return a PNG with a palette, which has a third of the size."""
    from PIL import Image

    image = (
        Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    )
    output = io.BytesIO()
    image.save(output, "PNG", optimize=True)
    return output.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
