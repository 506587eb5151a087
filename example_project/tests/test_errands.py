"""The small jobs, and their priorities."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from example_project.accounts.models import AccessToken, User
from example_project.errands import jobs
from example_project.invoices.models import Invoice
from example_project.organizations.models import Organization
from example_project.timesheets.models import CsvImport, Project, RejectedLine, TimeEntry
from wellos_jobs import Discard, Priority
from wellos_jobs.contrib import tasks
from wellos_jobs.models import JobRecord


def test_each_priority_has_its_job(website: Project, ada: User) -> None:
    tasks.add_critical_task({"user_id": ada.pk})
    tasks.add_user_action({"project_id": website.pk})
    tasks.add_background_sync({"project_id": website.pk})
    tasks.add_cleanup({"organization_id": "acme"})
    found = (
        JobRecord.objects.filter(queue="tasks")
        .order_by("priority")
        .values_list("name", "priority", "state")
    )
    assert list(found) == [
        (jobs.critical_task.name, Priority.CRITICAL, "waiting"),
        (jobs.user_action.name, Priority.HIGH, "waiting"),
        (jobs.background_sync.name, Priority.NORMAL, "waiting"),
        (jobs.clean_up.name, Priority.LOW, "delayed"),
    ]
    with pytest.raises(TypeError, match="user-action: unknown argument 'user_id'"):
        tasks.add_user_action({"user_id": ada.pk})


def test_the_tokens_of_one_user_are_revoked(ada: User, frida: User) -> None:
    for number, user in enumerate([ada, ada, frida]):
        AccessToken.objects.create(
            user=user, name="key", digest=f"{number}", expires_at=timezone.now()
        )
    assert jobs.critical_task(ada.pk) == {"revoked": 2}
    assert AccessToken.objects.get().user == frida


def test_hours_are_added_up(website: Project) -> None:
    for minutes in (45, 60):
        TimeEntry.objects.create(
            project=website, description="Work", day="2026-11-02", minutes=minutes
        )
    assert jobs.user_action(website.pk) == {"hours": "1.75"}


def test_drafts_follow_the_customer_and_issued_invoices_do_not(
    acme: Organization, website: Project, make_invoice: Any
) -> None:
    draft = make_invoice(acme, "ACME-1", project=website, customer_name="Old")
    issued = make_invoice(
        acme, "ACME-2", project=website, customer_name="Old", status=Invoice.Status.ISSUED
    )
    assert jobs.background_sync(website.pk) == {"drafts": 1}
    draft.refresh_from_db()
    issued.refresh_from_db()
    assert (draft.customer_name, issued.customer_name) == ("Initech", "Old")
    with pytest.raises(Discard, match="no project 0"):
        jobs.background_sync(0)


def test_rejected_lines_of_old_imports_are_deleted(acme: Organization, fjord: Organization) -> None:
    for organization, days in ((acme, 31), (acme, 29), (fjord, 31)):
        made = CsvImport.objects.create(
            organization=organization, lines=1, created_at=timezone.now() - timedelta(days=days)
        )
        RejectedLine.objects.create(csv_import=made, number=1, fault="no day")
    assert jobs.clean_up(acme.pk) == 1
    assert RejectedLine.objects.count() == 2


def test_the_bank_url_must_be_http() -> None:
    with pytest.raises(Discard, match="Invalid URL"):
        jobs.limited_job(1, "file:///etc/passwd")


def test_one_batch_has_all_invoices_of_an_organization(
    acme: Organization, fjord: Organization, make_invoice: Any
) -> None:
    owed = make_invoice(acme, "ACME-1", status=Invoice.Status.ISSUED)
    Invoice.objects.filter(pk=owed.pk).update(due_on=timezone.localdate() - timedelta(days=3))
    draft = make_invoice(acme, "ACME-2")
    make_invoice(fjord, "FJORD-1")
    batch = jobs.process_all(acme)
    items = JobRecord.objects.filter(batch=batch.id, name="process-item", organization_id=acme.pk)
    assert {item.data["invoice_id"]: jobs.process_item(**item.data)["days"] for item in items} == {
        owed.pk: 3,
        draft.pk: 0,
    }
    with pytest.raises(Discard, match="no invoice 0"):
        jobs.process_item(0)
