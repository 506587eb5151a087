"""Contents, actions and query counts of the pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from example_project.accounts.models import User
from example_project.invoices.issuing import issue
from example_project.invoices.jobs import generate_invoice, mail_invoice
from example_project.invoices.models import Invoice
from example_project.organizations.models import Organization
from example_project.timesheets.models import Project, TimeEntry
from wellos_jobs.models import JobRecord, OrganizationReportSchedule, Schedule
from wellos_jobs.states import JobState

from .conftest import MakeInvoice, logged_in

SESSION = 2  # the session and the user
MEMBER = SESSION + 1  # and the organization


def entries(project: Project, number: int) -> None:
    days = [f"2026-11-{1 + place % 28:02}" for place in range(number)]
    TimeEntry.objects.bulk_create(
        TimeEntry(project=project, day=day, minutes=90, description="Work") for day in days
    )


# --- how many queries -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 12])
@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/o/acme/", 8),
        ("/o/acme/invoices/", 3),
        ("/o/acme/time/", 4),
        ("/o/acme/reports/", 2),
        ("/o/acme/reports/schedule", 1),
        ("/o/acme/reports/schedule/preview?often=*+*+*&at=07:00", 0),
        ("/o/acme/jobs/", 2),
        ("/o/acme/time/import", 0),
    ],
)
def test_the_number_of_queries_does_not_grow(
    client: Client,
    ada: User,
    acme: Organization,
    website: Project,
    make_invoice: MakeInvoice,
    django_assert_num_queries: DjangoAssertNumQueries,
    path: str,
    queries: int,
    number: int,
) -> None:
    for place in range(number):
        invoice = make_invoice(acme, f"A-{place:03}", status=Invoice.Status.ISSUED)
        generate_invoice.using(organization=acme, requested_by=ada).enqueue(
            invoice_id=str(invoice.pk)
        )
    entries(website, number)
    with django_assert_num_queries(MEMBER + queries):
        assert client.get(path).status_code == 200


# --- invoices -------------------------------------------------------------------------------------


def test_the_overview_sums_up(
    client: Client, acme: Organization, website: Project, make_invoice: MakeInvoice
) -> None:
    make_invoice(acme, "A-1", status=Invoice.Status.ISSUED)
    make_invoice(acme, "A-2", status=Invoice.Status.PAID)
    entries(website, 3)
    page = re.sub(r"<[^>]+>|\s+", " ", client.get("/o/acme/").content.decode())
    assert re.search(r"Open invoices +1 ", page)
    assert re.search(r"To be paid +800\.00 +EUR", page)
    assert re.search(r"Hours in November +4\.50", page)
    assert "A-1" in page and "A-2" not in page


@pytest.mark.django_db(transaction=True)
def test_issuing_makes_the_pdf_and_then_the_mail_in_one_transaction(
    client: Client, ada: User, acme: Organization, make_invoice: MakeInvoice
) -> None:
    invoice = make_invoice(acme, "A-1")
    page = client.post(f"/o/acme/invoices/{invoice.pk}/issue", follow=True).content.decode()
    assert "A-1 is issued: its PDF is being made, then mailed to pay@initech.example." in page
    pdf, message = JobRecord.objects.order_by("created_at", "pk")
    assert [
        (job.name, job.state, job.requested_by, job.organization_id) for job in (pdf, message)
    ] == [
        ("generate-invoice", JobState.WAITING, ada, "acme"),
        ("mail-invoice", JobState.BLOCKED, ada, "acme"),
    ]
    assert "Generate invoice" in page
    again = client.post(f"/o/acme/invoices/{invoice.pk}/issue", follow=True).content.decode()
    assert "Invoice A-1 was issued before" in again
    assert JobRecord.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_issuing_in_the_admin_enqueues_the_same_jobs(
    acme: Organization, make_invoice: MakeInvoice
) -> None:
    staff = logged_in(User.objects.create_superuser("root"))
    good, bad = make_invoice(acme, "A-1"), make_invoice(acme, "A-2", customer_name=" ")
    sent = {"action": "issue_invoices", "_selected_action": [good.pk, bad.pk]}
    page = staff.post("/admin/invoices/invoice/", sent, follow=True).content.decode()
    assert "A-1 is issued: its PDF is being made." in page
    assert "Invoice A-2 has no customer" in page
    assert sorted(JobRecord.objects.values_list("name", flat=True)) == [
        "generate-invoice",
        "mail-invoice",
    ]
    good.refresh_from_db()
    assert good.status == Invoice.Status.ISSUED
    good.save()  # of an issued one, again, nothing follows
    assert JobRecord.objects.count() == 2


def test_without_an_address_no_email_is_sent(acme: Organization, make_invoice: MakeInvoice) -> None:
    issue(make_invoice(acme, "A-1", customer_email=""))
    assert JobRecord.objects.get().name == "generate-invoice"


def test_the_triggers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("jobs_triggers")
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    for line in (
        ["invoice_issued", "invoices.Invoice", "pdf_then_mail()"],
        ["post_save", "accounts.User", "send-welcome-email"],
        ["post_save", "accounts.User", "trial-expiration-warning"],
    ):
        assert line in lines


def test_an_organization_s_schedule_is_created_and_removed_with_it(db: None) -> None:
    with pytest.raises(LookupError), transaction.atomic():
        Organization.objects.create(slug="acme", name="Acme")
        assert Schedule.objects.filter(organization_id="acme").count() == 1
        raise LookupError
    assert not Schedule.objects.filter(organization_id="acme").exists()
    acme = Organization.objects.create(slug="acme", name="Acme")
    assert Schedule.objects.filter(organization_id="acme").count() == 1
    acme.delete()
    assert not Schedule.objects.filter(organization_id="acme").exists()


def test_incomplete_invoices_are_not_issued(
    client: Client, acme: Organization, make_invoice: MakeInvoice
) -> None:
    invoice = make_invoice(acme, "A-1")
    invoice.lines.all().delete()
    page = client.post(f"/o/acme/invoices/{invoice.pk}/issue", follow=True).content.decode()
    assert "Invoice A-1 has no lines" in page
    invoice.refresh_from_db()
    assert (invoice.status, JobRecord.objects.count()) == (Invoice.Status.DRAFT, 0)


def test_the_email_has_the_pdf_attached(
    acme: Organization, make_invoice: MakeInvoice, client: Client
) -> None:
    invoice = make_invoice(acme, "A-1", status=Invoice.Status.ISSUED)
    generate_invoice(str(invoice.pk))
    mail_invoice(str(invoice.pk))
    (message,) = mail.outbox
    assert message.recipients() == ["pay@initech.example"]
    assert message.subject == "Invoice A-1 from Acme"
    (attachment,) = message.attachments
    assert attachment[1][:5] == b"%PDF-"
    response = client.get(f"/o/acme/invoices/{invoice.pk}/file", follow=True)
    assert b"".join(response.streaming_content)[:5] == b"%PDF-"


def test_an_invoice_is_paid_once(
    client: Client, acme: Organization, make_invoice: MakeInvoice
) -> None:
    invoice = make_invoice(acme, "A-1", status=Invoice.Status.ISSUED)
    assert (
        "A-1 is paid."
        in client.post(f"/o/acme/invoices/{invoice.pk}/paid", follow=True).content.decode()
    )
    assert client.post(f"/o/acme/invoices/{invoice.pk}/paid").status_code == 404


# --- reports --------------------------------------------------------------------------------------


def test_a_requested_report_is_a_job_of_the_user(client: Client, ada: User) -> None:
    wanted = {"report_type": "hours", "start": "2026-10-01", "end": "2026-10-31"}
    response = client.post("/o/acme/reports/", wanted)
    job = JobRecord.objects.get()
    assert response.url == f"/o/acme/jobs/{job.pk}/"
    assert (job.requested_by, job.organization_id) == (ada, "acme")
    page = client.get(response.url).content.decode()
    assert f'data-wj-events="/jobs/{job.pk}/events"' in page
    assert f'data-wj-result-url="/o/acme/reports/{job.pk}/file"' in page
    assert client.get(f"/jobs/{job.pk}/status").json()["state"] == "waiting"


def test_an_inverted_date_range_is_refused(client: Client) -> None:
    wanted = {"report_type": "hours", "start": "2026-10-31", "end": "2026-10-01"}
    assert "It ends before it starts." in client.post("/o/acme/reports/", wanted).content.decode()
    assert not JobRecord.objects.exists()


SCHEDULE = {
    "often": "* * 1",
    "at": "06:30",
    "line": "",
    "time_zone": "",
    "report_type": "revenue",
    "format": "csv",
    "recipients": "ada@wellos.example\noffice@acme.example",
    "enabled": "on",
}


def schedule() -> OrganizationReportSchedule:
    return OrganizationReportSchedule.objects.get(organization_id="acme")


def test_a_schedule_is_added_changed_and_removed(client: Client) -> None:
    assert (
        "The schedule is set."
        in client.post("/o/acme/reports/schedule", SCHEDULE, follow=True).content.decode()
    )
    row = schedule()
    assert (row.cron, row.zone, row.report_type, row.format) == (
        "30 6 * * 1",
        "Asia/Tokyo",
        "revenue",
        "csv",
    )
    assert (row.recipients, row.enabled) == (["ada@wellos.example", "office@acme.example"], True)
    changed = {
        **SCHEDULE,
        "often": "custom",
        "line": "15 9 * * 2,4",
        "time_zone": "Europe/Lisbon",
        "enabled": "",
    }
    client.post("/o/acme/reports/schedule", changed)
    row = schedule()
    assert (row.cron, row.zone, row.enabled, row.next_run_at) == (
        "15 9 * * 2,4",
        "Europe/Lisbon",
        False,
        None,
    )
    client.post("/o/acme/reports/schedule/remove")
    assert not OrganizationReportSchedule.objects.exists()
    page = client.get("/o/acme/reports/schedule").content.decode()
    assert "no more reports are made until you add" in page
    client.post("/o/acme/reports/schedule", SCHEDULE)
    assert schedule().cron == "30 6 * * 1"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"often": "custom", "line": "61 * * * *"}, "minute"),
        ({"often": "custom", "line": ""}, "cron line"),
        ({"at": ""}, "Enter a time."),
        ({"at": "25:00"}, "Enter a valid time."),
        ({"recipients": "a@acme.example nobody"}, "nobody is not an email address."),
        ({"recipients": " ".join(f"{n}@acme.example" for n in range(6))}, "at most 5"),
        ({"recipients": "eve@acme.example"}, "not an address of a member of Acme"),
        ({"often": "custom", "line": "@every 0.001"}, "at least 60 seconds"),
        ({"often": "custom", "line": "0,30 * * * * *"}, "at least 60 seconds"),
        ({"time_zone": "Mars/Base"}, "Mars/Base"),
    ],
)
def test_invalid_schedules_are_refused(client: Client, changes: dict[str, str], fault: str) -> None:
    before = schedule().cron
    page = client.post("/o/acme/reports/schedule", {**SCHEDULE, **changes}).content.decode()
    assert fault in re.search(r'<ul class="errorlist".*?</ul>', page, re.DOTALL)[0]
    assert schedule().cron == before


def test_the_preview_shows_the_next_runs_in_the_zone(client: Client) -> None:
    query = {"often": "* * *", "at": "07:00", "time_zone": "America/New_York"}
    page = client.get("/o/acme/reports/schedule/preview", query).content.decode()
    assert "At 07:00 every day." in page
    assert page.count('"amount">07:00<') == 5
    nothing = client.get(
        "/o/acme/reports/schedule/preview", {"often": "custom", "line": "1 2"}
    ).content.decode()
    assert "Shown here once" in nothing


def test_a_schedule_can_be_run_now(client: Client, ada: User) -> None:
    response = client.post("/o/acme/reports/schedule/run")
    job = JobRecord.objects.get()
    assert (job.name, job.requested_by, response.url) == (
        "org-report",
        ada,
        f"/o/acme/jobs/{job.pk}/",
    )


# --- jobs -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("jobs_captured")
def test_users_can_cancel_their_own_jobs(client: Client, acme: Organization, ada: User) -> None:
    with transaction.atomic():
        handle = generate_invoice.using(organization=acme, requested_by=ada).enqueue(invoice_id="1")
    assert "Cancel" in client.get("/o/acme/jobs/").content.decode()
    page = client.post(f"/o/acme/jobs/{handle.id}/cancel", follow=True).content.decode()
    assert "The job is canceled." in page
    assert handle.state == JobState.CANCELED


# --- every page -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/o/acme/", "/o/acme/reports/schedule", "/login", "/sign-up", "/password-reset"]
)
def test_pages_keep_to_a_strict_content_policy(client: Client, path: str) -> None:
    response = client.get(path) if path.startswith("/o/") else Client().get(path)
    page = response.content.decode()
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=", page)


def test_the_favicon_is_served() -> None:
    response = Client().get("/favicon.ico")
    assert response.status_code == 302
    assert response["Location"].endswith("example/icon.svg")


def test_demo_accounts_are_shown_only_with_debug(
    db: None, settings: Any, monkeypatch: pytest.MonkeyPatch, acme: Organization
) -> None:
    User.objects.create_user("ada.acme", "a@acme.example", organization=acme)
    made = False
    monkeypatch.setattr("example_project.keyring.has_secret", lambda name: made)
    monkeypatch.setattr("example_project.keyring.secret", lambda name, make: "the password")
    settings.DEBUG = True
    assert "the password" not in Client().get("/login").content.decode()
    made = True
    assert "the password" in Client().get("/login").content.decode()
    settings.DEBUG = False
    assert "the password" not in Client().get("/login").content.decode()
