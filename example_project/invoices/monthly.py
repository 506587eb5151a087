"""Monthly invoicing as a flow of four jobs:

monthly-invoicing ─▶ calculate-billable-hours ─┬▶ generate-invoice-pdf
  (invoicing)            (calculations)         └▶ send-invoice-email
                                                   (reports, email)
"""

from __future__ import annotations

import calendar
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from example_project.organizations.models import Organization
from example_project.timesheets.models import Project, TimeEntry
from wellos_jobs import Discard, Flow, current_job, job, report_progress
from wellos_jobs.contrib import emails
from wellos_jobs.enqueueing.flows import FlowHandle

from .billing import bill
from .document import generate_invoice
from .models import Invoice

TAX_RATE = Decimal("20")


def process_monthly_invoicing(organization_id: str, month: str = "", **using: Any) -> FlowHandle:
    """Enqueue the invoicing of an organization for a month such as ``2026-11``.

    The default is the previous month. The jobs are rows in the caller's transaction.
    """
    data = {"organization_id": str(organization_id), "month": month or last_month()}
    return Flow(
        monthly_invoicing.with_data(**data),
        children=[
            Flow(
                calculate_billable_hours.with_data(**data),
                children=[
                    generate_invoice_pdf.with_data(**data),
                    send_invoice_email.with_data(**data),
                ],
            )
        ],
    ).enqueue(organization=organization_id, **using)


def last_month() -> str:
    """Return the previous month."""
    return f"{timezone.localdate().replace(day=1) - timedelta(days=1):%Y-%m}"


@job("monthly-invoicing", queue="invoicing")
def monthly_invoicing(organization_id: str, month: str) -> dict[str, Any]:
    """Return the projects with unbilled entries, and the number of entries."""
    entries = unbilled(organization_id, month)
    projects = sorted(set(entries.values_list("project_id", flat=True)))
    return {"projects": projects, "entries": entries.count()}


@job("calculate-billable-hours", queue="calculations")
def calculate_billable_hours(organization_id: str, month: str) -> list[str]:
    """Create an invoice for each project with unbilled entries; return all invoices of the month.

    It is safe to repeat, because billed entries are not billed again.
    """
    start, end = _days(month)
    prefix = _prefix(organization_id, month)
    projects = Project.objects.filter(organization=organization_id).order_by("pk")
    for count, project in enumerate(projects, start=1):
        report_progress(10 * count, project.name)
        if unbilled(organization_id, month).filter(project=project).exists():
            number = f"{prefix}{project.pk:04}-{project.invoices.count() + 1}"
            bill(project, number, start, end, tax_rate=TAX_RATE)

    return [str(pk) for pk in _invoices(organization_id, month).values_list("pk", flat=True)]


@job("generate-invoice-pdf", queue="reports", timeout=120)
def generate_invoice_pdf(organization_id: str, month: str) -> list[dict[str, Any]]:
    """Make the PDFs of the parent job's invoices; return their URLs and sizes."""
    return [generate_invoice(invoice_id) for invoice_id in _from_parent()]


@job("send-invoice-email", queue="email")
def send_invoice_email(organization_id: str, month: str) -> int:
    """Email the organization the list of invoices; return their number."""
    organization = Organization.objects.get(pk=organization_id)
    invoices = Invoice.objects.filter(pk__in=_from_parent()).prefetch_related("lines")
    lines = [f"{one.number}  {one.customer_name}  {one.total} {one.currency}" for one in invoices]
    text = "\n".join(lines) or "There was nothing to bill."

    data = {"name": organization.name, "text": f"Invoices for {month}:\n\n{text}"}
    emails.deliver(organization.email, f"Invoices for {month}", "announcement", data)
    return len(lines)


def _from_parent() -> list[str]:
    (parent,) = current_job().needs
    return list(parent.result)


def unbilled(organization_id: str, month: str) -> Any:
    """Return the billable entries of a month that are not on an invoice yet."""
    start, end = _days(month)
    return TimeEntry.objects.filter(
        project__organization=organization_id,
        day__range=(start, end),
        billable=True,
        invoice_line=None,
    )


def _invoices(organization_id: str, month: str) -> Any:
    return Invoice.objects.filter(
        organization=organization_id, number__startswith=_prefix(organization_id, month)
    )


def _prefix(organization_id: str, month: str) -> str:
    return f"{organization_id.upper()}-{month}-"


def _days(month: str) -> tuple[date, date]:
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise Discard(f"Invalid month {month!r}: write it as 2026-11") from error
    return first, first.replace(day=calendar.monthrange(first.year, first.month)[1])
