"""The jobs of ``contrib.tasks``, a rate-limited job, and the items of a batch."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from django.db.models import Sum
from django.utils import timezone

from example_project.accounts.models import AccessToken
from example_project.invoices.models import Invoice
from example_project.organizations.models import Organization
from example_project.timesheets.models import Project, RejectedLine, TimeEntry
from wellos_jobs import Batch, Concurrency, Discard, RateLimit, job

TASKS = "tasks"
REQUEST_TIMEOUT = 10.0
KEPT = timedelta(days=30)
"""Rejected lines of an import are deleted after this time."""


@job("critical-task", queue=TASKS, max_attempts=5)
def critical_task(user_id: int) -> dict[str, int]:
    """Revoke a user's leaked access tokens."""
    revoked, _ = AccessToken.objects.filter(user=user_id).delete()
    return {"revoked": revoked}


@job("user-action", queue=TASKS)
def user_action(project_id: int) -> dict[str, str]:
    """Add up the hours of a project, for a user who is waiting."""
    entries = TimeEntry.objects.filter(project=project_id)
    minutes = entries.aggregate(sum=Sum("minutes", default=0))["sum"]
    return {"hours": f"{Decimal(minutes) / 60:.2f}"}


@job("background-sync", queue=TASKS)
def background_sync(project_id: int) -> dict[str, int]:
    """Copy the customer's name and address to the project's draft invoices."""
    project = Project.objects.filter(pk=project_id).first()
    if project is None:
        raise Discard(f"There is no project {project_id}")

    customer = ("customer_name", "customer_address", "customer_email")
    drafts = project.invoices.filter(status=Invoice.Status.DRAFT)
    return {"drafts": drafts.update(**{field: getattr(project, field) for field in customer})}


@job("cleanup", queue=TASKS)
def clean_up(organization_id: str) -> int:
    """Delete the rejected lines of an organization's old imports and return their number."""
    old = {
        "csv_import__organization": organization_id,
        "csv_import__created_at__lt": timezone.now() - KEPT,
    }
    deleted, _ = RejectedLine.objects.filter(**old).delete()
    return deleted


@job("limited-job", queue="rate-limited", limits=[Concurrency(2), RateLimit("10/s")])
def limited_job(invoice_id: int, url: str) -> dict[str, Any]:
    """Ask the bank whether an invoice is paid: at most two calls at a time and ten a second."""
    if not url.startswith(("http://", "https://")):
        raise Discard(f"Invalid URL {url!r}: it must start with http:// or https://")
    with urlopen(
        f"{url}?{urlencode({'invoice': invoice_id})}", timeout=REQUEST_TIMEOUT
    ) as response:
        return json.load(response)


@job("process-item", queue="batch")
def process_item(invoice_id: int) -> dict[str, int]:
    """Return the number of days that an invoice is overdue; 0 if it is not due or is paid."""
    invoice = Invoice.objects.filter(pk=invoice_id).first()
    if invoice is None:
        raise Discard(f"There is no invoice {invoice_id}")
    if invoice.status != Invoice.Status.ISSUED:
        return {"days": 0}
    return {"days": max(0, (timezone.localdate() - invoice.due_on).days)}


def process_all(organization: Organization) -> Batch:
    """Enqueue an item for each of an organization's invoices, as one batch."""
    items = [{"invoice_id": invoice.pk} for invoice in organization.invoices.all()]
    with Batch(name=f"invoices of {organization}", organization=organization.pk) as batch:
        batch.enqueue_bulk(process_item, items)
    return batch
