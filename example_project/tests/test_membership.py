"""Access: pages of other organizations and jobs of other users are not found."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, reverse

from example_project.accounts.models import User
from example_project.organizations.models import Organization
from example_project.timesheets.models import CsvImport
from example_project.urls import organization_urls
from wellos_jobs import Batch
from wellos_jobs.contrib.reports import generate_report
from wellos_jobs.models import JobRecord
from wellos_jobs.states import JobState

from .conftest import MakeInvoice, logged_in, member


def path_of(pattern: URLPattern, slug: str, **known: Any) -> str:
    """Return the path of a page of an organization, with made-up ids if none are given."""
    made_up = {"int": 1, "uuid": uuid.uuid4(), "slug": "small"}
    arguments = {}
    for name, converter in pattern.pattern.converters.items():
        kind = type(converter).__name__.removesuffix("Converter").lower()
        arguments[name] = known.get(name, made_up[kind])
    return reverse(pattern.name, kwargs={"slug": slug, **arguments})


@pytest.mark.parametrize("pattern", organization_urls, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("method", ["get", "post"])
def test_pages_of_other_organizations_are_not_found(
    client: Client, fjord: Organization, pattern: URLPattern, method: str
) -> None:
    """Covers all URLs of an organization, including future ones."""
    assert getattr(client, method)(path_of(pattern, "fjord")).status_code == 404


@pytest.mark.parametrize("pattern", organization_urls, ids=lambda pattern: pattern.name)
def test_anonymous_users_are_redirected_to_the_login(
    acme: Organization, pattern: URLPattern
) -> None:
    response = Client().get(path_of(pattern, "acme"))
    assert response.status_code == 302
    assert response.url.startswith("/login?next=/o/acme/")


def test_ids_of_other_organizations_are_not_found(
    client: Client, frida: User, fjord: Organization, make_invoice: MakeInvoice
) -> None:
    """The slug is the user's organization; the id belongs to another one."""
    invoice = make_invoice(fjord, "F-1", document="invoices/1.pdf", status="issued")
    with Batch(name="import") as batch:
        made = {"file_name": "x.csv", "stored_as": "x", "lines": 1, "batch_id": batch.id}
        csv_import = CsvImport.objects.create(organization=fjord, **made)
    report = generate_report.using(organization=fjord, requested_by=frida).enqueue(
        report_type="hours", date_range=["2026-10-01", "2026-10-31"]
    )
    JobRecord.objects.update(state=JobState.COMPLETED)
    ids = {
        "invoice": invoice.pk,
        "open-pdf": invoice.pk,
        "make-pdf": invoice.pk,
        "issue-invoice": invoice.pk,
        "mark-paid": invoice.pk,
        "csv-import": csv_import.pk,
        "csv-import-progress": csv_import.pk,
        "cancel-csv-import": csv_import.pk,
        "open-report": report.id,
        "job": report.id,
        "cancel-job": report.id,
    }
    with_ids = {
        pattern.name: pattern for pattern in organization_urls if "pk" in pattern.pattern.converters
    }
    assert with_ids.keys() == ids.keys()
    for name, pattern in with_ids.items():
        path, own = path_of(pattern, "acme", pk=ids[name]), path_of(pattern, "fjord", pk=ids[name])
        posts = name in {
            "make-pdf",
            "issue-invoice",
            "mark-paid",
            "cancel-csv-import",
            "cancel-job",
        }
        ask = Client.post if posts else Client.get
        assert ask(client, path).status_code == 404, path
        assert ask(logged_in(frida), own).status_code in {200, 302}, own
    for path in ("status", "events", "cancel"):
        response = (
            client.post(f"/jobs/{report.id}/{path}")
            if path == "cancel"
            else client.get(f"/jobs/{report.id}/{path}")
        )
        assert (response.status_code, response.content) == (404, b"Job not found")


def test_colleagues_do_not_see_each_others_jobs(
    client: Client, acme: Organization, ada: User
) -> None:
    noah = member("noah", acme)
    asked = {"report_type": "hours", "date_range": ["2026-10-01", "2026-10-31"]}
    own, other = (
        generate_report.using(organization=acme, requested_by=user).enqueue(**asked)
        for user in (ada, noah)
    )
    page = client.get("/o/acme/jobs/").content.decode()
    assert str(own.id) in page
    assert str(other.id) not in page
    assert client.get(f"/o/acme/jobs/{own.id}/").status_code == 200
    assert client.get(f"/o/acme/jobs/{other.id}/").status_code == 404
    assert client.post(f"/o/acme/jobs/{other.id}/cancel").status_code == 404
    assert other.state == JobState.WAITING


def test_staff_can_open_every_organization(acme: Organization, fjord: Organization) -> None:
    staff = logged_in(User.objects.create_user("root", "root@wellos.example", is_staff=True))
    page = staff.get("/").content.decode()
    assert "/o/acme/" in page and "/o/fjord/" in page
    assert staff.get("/o/fjord/").status_code == 200


def test_home_redirects_members_to_their_organization(client: Client, db: None) -> None:
    assert client.get("/").url == "/o/acme/"
    alone = logged_in(User.objects.create_user("alone", "alone@wellos.example"))
    assert b"You are not a member of an organization yet" in alone.get("/").content


@pytest.mark.parametrize("pattern", organization_urls, ids=lambda pattern: pattern.name)
def test_changes_require_a_post_with_a_csrf_token(
    client: Client, ada: User, pattern: URLPattern
) -> None:
    shown = {
        "overview", "invoices", "invoice", "open-pdf", "time-entries", "sample-csv", "csv-import",
        "csv-import-progress", "open-report", "preview-schedule", "jobs", "job-rows", "job",
    }  # fmt: skip
    both = {"import-entries", "reports", "report-schedule"}
    path = path_of(pattern, "acme")
    assert (client.get(path).status_code == 405) == (pattern.name not in shown | both)
    assert (client.post(path).status_code == 405) == (pattern.name in shown)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ada)
    assert strict.post(path).status_code in {403, 405}
