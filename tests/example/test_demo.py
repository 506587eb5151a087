"""``manage.py demo``, run in a subprocess on the database server of this test run."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pypdf
import pytest
from django.db import connection

from ..support import demo_process
from ..support.demo_process import Demo
from ..support.processes import is_alive, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A demo that ran with ``--exit`` and has ended."""
    with Demo(tmp_path_factory.mktemp("demo") / "state", "--exit") as demo:
        demo.process.wait(demo_process.SECONDS)
    return demo


def rows(demo: Demo, query: str) -> list[tuple]:
    connected = sqlite3.connect(demo.folder / "db.sqlite3")
    try:
        return connected.execute(query).fetchall()
    finally:
        connected.close()


def test_exit_status_0_and_every_check_passed(finished: Demo) -> None:
    assert finished.process.exit_status == 0, finished.output()
    assert "All as expected" in finished.output()
    assert finished.output().count("\nok    ") == 16
    assert "FAIL" not in finished.output()


def test_a_schedule_ran_every_second_and_is_gone(finished: Demo) -> None:
    assert re.search(
        r"a schedule ran every second: due at (\d\d:\d\d:\d\d, ){2}\d\d:\d\d:\d\d;",
        finished.output(),
    )
    names = {name for (name,) in rows(finished, "SELECT name FROM wellos_jobs_schedule")}
    assert "every-second" not in names
    assert {"sync-time-entries", "monthly-billing", "org-report:acme"} <= names


def test_output_is_plain_lines_without_a_terminal(finished: Demo) -> None:
    assert "\r" not in finished.output()
    assert "\x1b" not in finished.output()
    assert "INFO" not in finished.output()


def test_table_has_every_job_with_state_attempts_and_times(finished: Demo) -> None:
    lines = finished.output().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("job  "))
    assert lines[start].split() == ["job", "for", "queue", "state", "attempts", "wait", "run"]
    table = lines[start + 2 : lines.index("", start)]
    # Without those of schedules, which come after the table.
    query = (
        "SELECT count(*) FROM wellos_jobs_jobrecord"
        " WHERE schedule_id IS NULL AND queue <> 'scheduled-tasks'"
    )
    assert len(table) == rows(finished, query)[0][0]
    flaky = next(line for line in table if line.startswith("push-invoice"))
    assert flaky.split()[3:5] == ["completed", "3"]


def test_invoice_pdf_has_number_customer_and_total(finished: Demo) -> None:
    found = rows(
        finished,
        """SELECT i.id, i.number, i.customer_name, i.currency, i.tax_rate, l.hours, l.rate
           FROM invoices_invoice i JOIN invoices_invoiceline l ON l.invoice_id = i.id""",
    )
    lines: dict[tuple, list[int]] = {}
    for pk, number, customer, currency, tax, hours, rate in found:
        # Cents as whole numbers, half a cent up: a second way to the same sum.
        lines.setdefault((pk, number, customer, currency, tax), []).append(
            (round(hours * 100) * round(rate * 100) + 50) // 100
        )
    assert len(lines) == 13
    for (pk, number, customer, currency, tax), amounts in lines.items():
        subtotal = sum(amounts)
        total = subtotal + (subtotal * round(tax * 100) + 5000) // 10000
        reader = pypdf.PdfReader(
            io.BytesIO((finished.folder / f"media/invoices/{pk}.pdf").read_bytes())
        )
        text = " ".join("\n".join(page.extract_text() for page in reader.pages).split())
        assert f"Number {number}" in text
        assert f"Bill to {customer}" in text
        assert f"Total {total / 100:,.2f} {currency}" in text
        assert reader.metadata.title == f"Invoice {number}"


def test_mails_are_files_with_text_and_html(finished: Demo) -> None:
    welcome = [mail for mail in finished.mails() if mail["Subject"] == "Welcome to WellOS"]
    assert len(welcome) == 8
    assert "ada.acme@wellos.example" in {mail["To"] for mail in welcome}
    for mail in welcome:
        assert "you log in as" in mail.get_body(("plain",)).get_content()
        assert "you log in as" in mail.get_body(("html",)).get_content()
    notice = next(
        mail for mail in finished.mails() if mail["Subject"] == "Job Failed After All Retries"
    )
    assert notice["To"] == "ops@wellos.example"
    assert "generate-invoice failed after 1 attempt." in notice.get_content()


def test_report_lists_every_project(finished: Demo) -> None:
    (job_id, result), *others = rows(
        finished, "SELECT id, result FROM wellos_jobs_jobrecord WHERE name = 'generate-report'"
    )
    assert not others
    paths = list((finished.folder / "media/reports").iterdir())
    assert [path.name.replace("-", "") for path in paths] == [f"{job_id.replace('-', '')}.pdf"]
    assert json.loads(result)["size"] == paths[0].stat().st_size
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(paths[0]).pages)
    assert "Hours by project" in text
    assert text.count("Warehouse") == 4


def test_password_reset_token_is_in_the_mail_only(finished: Demo) -> None:
    mail = next(mail for mail in finished.mails() if mail["Subject"] == "Reset Your Password")
    text = mail.get_body(("plain",)).get_content()
    token = next(line for line in text.splitlines() if line.startswith("http")).rpartition("/")[2]
    assert len(token) > 20
    elsewhere = [
        path for path in finished.folder.rglob("*") if path.is_file() and path.parent.name != "mail"
    ]
    assert any(
        path.parent.name == "appendonlydir" for path in elsewhere
    )  # all that was written to Redis
    for path in elsewhere:
        assert token.encode() not in path.read_bytes(), path


def test_secrets_are_readable_only_by_their_owner(finished: Demo) -> None:
    for name in ("secret-key", "encryption-key", "valkey", "admin-password", "people-password"):
        assert (finished.folder / "secrets" / name).stat().st_mode & 0o077 == 0
    assert (finished.folder / "valkey/valkey.conf").stat().st_mode & 0o077 == 0


def test_a_second_demo_starts_with_empty_data(tmp_path: Path) -> None:
    for _ in range(2):
        with Demo(tmp_path / "state", "--exit") as demo:
            assert demo.process.wait(demo_process.SECONDS) == 0, demo.output()
    assert len(demo.mails()) == 16
    assert rows(demo, "SELECT count(*) FROM accounts_user") == [(11,)]


@pytest.fixture
def database_url(transactional_db: None) -> Iterator[str | None]:
    """A new database on the server of this test run, or None for the demo's SQLite file."""
    if connection.vendor == "sqlite":
        yield None
        return
    name = f"test_demo_{os.getpid()}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")


def test_demo_on_the_database_of_this_run(tmp_path: Path, database_url: str | None) -> None:
    if database_url is None:
        pytest.skip("the other tests run it on SQLite")
    for _ in range(2):  # here nothing may be emptied: the second run finds the rows of the first
        with Demo(tmp_path / "state", "--exit", database_url=database_url) as demo:
            assert demo.process.wait(demo_process.SECONDS) == 0, demo.output()
    assert not (demo.folder / "db.sqlite3").exists()


def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    with Demo(tmp_path / "state") as demo:
        pids = demo.wait_until_working()
        demo.process.kill9()
        wait_until(lambda: not any(map(is_alive, pids)), 30, f"the end of {pids}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_a_demo_that_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    with Demo(tmp_path / "state") as demo:
        pids = demo.wait_until_working()
        demo.process.signal(number)
        assert demo.process.wait(40) == 130
        assert not any(map(is_alive, pids))


def test_exit_status_1_if_the_deadline_passes(tmp_path: Path) -> None:
    with Demo(tmp_path / "state", "--exit", "--deadline", "0.1") as demo:
        assert demo.process.wait(demo_process.SECONDS) == 1
        pids = demo.descendants()
    assert "NOT as expected" in demo.output()
    assert not pids
