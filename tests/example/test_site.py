"""The example's site while its demo runs: access and actions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest

from ..support import demo_process
from ..support.demo_process import Demo
from ..support.processes import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo that has finished its scenario and serves the site."""
    with Demo(tmp_path_factory.mktemp("demo") / "state") as running:
        running.wait_until_played()
        yield running


class Browser:
    """Cookies, forms and redirects over plain HTTP."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self.cookies))

    def open(self, path: str, data: dict[str, str] | None = None) -> HTTPResponse | HTTPError:
        """Get ``path`` or post ``data`` to it; return error responses, too."""
        body = None
        if data is not None:
            token = next(
                (cookie.value for cookie in self.cookies if cookie.name == "csrftoken"), ""
            )
            body = urlencode({"csrfmiddlewaretoken": token, **data}).encode()
        url = path if path.startswith("http") else self.site + path
        try:
            return self._opener.open(Request(url, data=body), timeout=20)
        except HTTPError as error:
            return error

    def text(self, path: str, data: dict[str, str] | None = None) -> str:
        with self.open(path, data) as response:
            return response.read().decode()

    def status(self, path: str, data: dict[str, str] | None = None) -> int:
        with self.open(path, data) as response:
            return int(response.status)

    def log_in(self, username: str, password: str) -> None:
        self.open("/login").close()
        with self.open("/login", {"username": username, "password": password}) as response:
            assert not response.url.startswith(f"{self.site}/login"), response.read().decode()


@pytest.fixture
def browser(demo: Demo) -> Browser:
    return Browser(demo.site)


@pytest.fixture
def admin(demo: Demo) -> Browser:
    browser = Browser(demo.site)
    browser.log_in("admin", demo.secret("admin-password"))
    return browser


def sign_up(browser: Browser, name: str, organization: str) -> None:
    password = "correct horse battery"
    form = {
        "username": name,
        "email": f"{name}@new.example",
        "organization_name": organization,
        "password1": password,
        "password2": password,
    }
    browser.open("/sign-up").close()
    assert f"An email to {name}@new.example is on its way" in browser.text("/sign-up", form)
    browser.log_in(name, password)


def jobs_of(page: str) -> list[str]:
    return [
        f"/jobs/{found}/status"
        for found in re.findall(r'href="/o/\w+/jobs/([0-9a-f-]{36})/"', page)
    ]


def test_anonymous_users_are_redirected_to_the_login(browser: Browser) -> None:
    for path in ("/", "/o/acme/", "/o/acme/invoices/1/file"):
        with browser.open(path) as response:
            assert response.url.startswith(f"{browser.site}/login?next=")


def test_staff_can_open_all_organizations(admin: Browser) -> None:
    page = admin.text("/")
    for text in ("Acme Architects", "Fjord &amp; Söner AB", "Łódź Studio sp. z o.o.", "/o/kiwi/"):
        assert text in page
    page = admin.text("/o/kiwi/invoices/")
    for text in ("O&#x27;Brien Logistics &lt;Dublin&gt;", "KIWI-2026-0002"):
        assert text in page


def test_a_button_makes_a_pdf_and_the_job_can_be_followed(admin: Browser) -> None:
    before = jobs_of(admin.text("/o/acme/invoices/1/"))
    page = admin.text("/o/acme/invoices/1/pdf", {})
    assert "The PDF of ACME-2026-0001 is being made." in page
    (status_path,) = set(jobs_of(page)) - set(before)
    status = wait_until(
        lambda: (s := json.loads(admin.text(status_path)))["state"] == "completed" and s, 20
    )
    assert (status["progress"], status["data"]["invoice_id"]) == (100, "1")
    for link in (status["result"]["url"], "/o/acme/invoices/1/file"):
        with admin.open(link) as response:
            assert response.headers["Content-Type"] == "application/pdf"
            assert response.read(5) == b"%PDF-"


def test_all_pdfs_of_an_organization_are_made_with_one_button(admin: Browser) -> None:
    assert "3 PDFs are being made." in admin.text("/o/kiwi/invoices/pdfs", {})
    assert admin.status("/o/nobody/invoices/pdfs", {}) == 404


def test_members_see_their_own_organization_only(
    demo: Demo, browser: Browser, admin: Browser
) -> None:
    browser.log_in("ada.lodz", demo.secret("people-password"))
    page = browser.text("/")
    assert "Łódź Studio" in page
    assert "Acme" not in page
    (own, *_) = re.findall(r"/o/lodz/invoices/(\d+)/", browser.text("/o/lodz/invoices/"))
    page = browser.text(f"/o/lodz/invoices/{own}/pdf", {})
    assert "is being made" in page
    (status,) = jobs_of(page)
    assert browser.status(status) == 200
    for path, data in (
        ("/o/lodz/invoices/1/", None),
        ("/o/acme/invoices/pdfs", {}),
        ("/o/acme/invoices/1/file", None),
    ):
        assert browser.status(path, data) == 404
    assert browser.status(f"/o/lodz/invoices/{own}/file") == 200
    (others, *_) = jobs_of(admin.text("/o/acme/invoices/1/pdf", {}))
    with browser.open(others) as response:
        assert (response.status, response.read()) == (404, b"Job not found")


def test_the_login_page_shows_accounts_that_work(demo: Demo, browser: Browser) -> None:
    page = browser.text("/login")
    found = re.findall(r"<code>([\w.-]+)</code></th><td><code>([\w-]+)</code></td><td>(\w+)", page)
    assert [(user, organization) for user, _, organization in found] == [
        ("ada.acme", "Acme"),
        ("noah.acme", "Acme"),
        ("ada.fjord", "Fjord"),
    ]
    user, password, _ = found[-1]
    browser.log_in(user, password)
    assert "Fjord &amp; Söner AB" in browser.text("/")
    assert user in demo.output() and password in demo.output()


def test_sign_up_creates_an_organization_and_sends_a_welcome_email(
    demo: Demo, browser: Browser
) -> None:
    sign_up(browser, "nils", "Nils & Daughters")
    assert "Nils &amp; Daughters" in browser.text("/")
    assert "No report is scheduled" not in browser.text(
        "/o/nils-daughters/"
    )  # a new organization has its report schedule

    def welcomed() -> bool:
        return any(mail["To"] == "nils@new.example" for mail in demo.mails())

    wait_until(welcomed, 20, "the mail")


def test_password_reset(demo: Demo, browser: Browser) -> None:
    browser.open("/password-reset").close()
    assert "Check your email" in browser.text(
        "/password-reset", {"email": "ada.kiwi@wellos.example"}
    )

    def link() -> str | None:
        for mail in demo.mails():
            if mail["To"] == "ada.kiwi@wellos.example" and mail["Subject"] == "Reset Your Password":
                return re.search(r"http\S+", mail.get_body(("plain",)).get_content())[0]
        return None

    with browser.open(wait_until(link, 20, "the mail")) as response:
        form_url = response.url
        assert "Choose a new password" in response.read().decode()
    password = "staple battery horse"
    page = browser.text(form_url, {"new_password1": password, "new_password2": password})
    assert "Password changed" in page
    browser.log_in("ada.kiwi", password)


def test_admin_lists_the_organizations_and_links_them_from_jobs(admin: Browser) -> None:
    assert "Pacific/Auckland" in admin.text("/admin/organizations/organization/")
    for path in (
        "accounts/user",
        "accounts/accesstoken",
        "timesheets/timeentry",
        "invoices/invoice",
    ):
        assert admin.status(f"/admin/{path}/") == 200
    assert admin.status("/admin/wellos_jobs/jobrecord/") == 200


def test_a_second_terminal_finds_the_running_server(demo: Demo) -> None:
    server_port = (demo.folder / "valkey" / "port").read_text()
    code = (
        "from wellos_jobs.contrib.emails import email_job\n"
        "h = email_job.enqueue(\n"
        "    to='t2@wellos.example', subject='From a shell', template='welcome'\n"
        ")\n"
        "h.wait(20)\n"
        "print('state', h.state)"
    )
    process = demo_process.manage(demo.folder, "shell", "-c", code)
    assert process.wait(60) == 0, process.output()
    assert "state completed" in process.output()
    assert (demo.folder / "valkey" / "port").read_text() == server_port
    assert "t2@wellos.example" in {mail["To"] for mail in demo.mails()}


def test_a_second_demo_is_refused_while_one_runs(demo: Demo) -> None:
    mails = len(demo.mails())
    process = demo_process.manage(demo.folder, "demo", "--exit")
    assert process.wait(60) == 1
    assert "stop it first" in process.output()
    assert len(demo.mails()) >= mails


def test_billing_runs_as_a_flow_over_four_queues(admin: Browser, demo: Demo) -> None:
    """Acme's imported entries are unbilled: the flow creates the invoice, PDF and email."""
    page = admin.text("/o/acme/invoices/bill", {})
    assert "are being created" in page

    def states() -> list[str]:
        names = (
            "Monthly invoicing",
            "Calculate billable hours",
            "Generate invoice pdf",
            "Send invoice email",
        )
        home = admin.text("/o/acme/jobs/")
        found = [
            re.search(rf"{name}</a></th>.*?class=\"state (\w+)\"", home, re.DOTALL)
            for name in names
        ]
        return [match[1] if match else "" for match in found]

    wait_until(lambda: states() == ["completed"] * 4, 30, what="the flow", processes=[demo.process])
    assert re.search(r"ACME-20\d\d-\d\d-\d{4}-\d", admin.text("/o/acme/invoices/"))
    assert any(str(mail["Subject"]).startswith("Invoices for 20") for mail in demo.mails())
