"""Invoices: list, page, and buttons that enqueue jobs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from example_project.organizations.membership import for_members
from example_project.organizations.models import Organization
from example_project.timesheets.models import TimeEntry
from wellos_jobs.contrib.files import url_of
from wellos_jobs.models import JobRecord

from .issuing import issue
from .jobs import generate_invoice, process_monthly_invoicing
from .models import Invoice

PAGE = 25
LATEST_JOBS = 5


@for_members
@require_safe
def invoice_list(request: HttpRequest, organization: Organization) -> HttpResponse:
    invoices = organization.invoices.prefetch_related("lines").order_by("-number")
    page = Paginator(invoices, PAGE).get_page(request.GET.get("page"))
    return render(request, "invoices/list.html", {"organization": organization, "page": page})


@for_members
@require_safe
def invoice_page(request: HttpRequest, organization: Organization, pk: int) -> HttpResponse:
    """Show an invoice and the user's jobs for it."""
    invoice = get_object_or_404(organization.invoices.prefetch_related("lines"), pk=pk)
    jobs = JobRecord.objects.filter(
        organization_id=organization.pk, requested_by=request.user, data__invoice_id=str(invoice.pk)
    )
    context = {
        "organization": organization,
        "invoice": invoice,
        "jobs": jobs.order_by("-created_at")[:LATEST_JOBS],
    }
    return render(request, "invoices/invoice.html", context)


@for_members
@require_safe
def open_pdf(request: HttpRequest, organization: Organization, pk: int) -> HttpResponse:
    """Redirect to the file of an invoice."""
    invoice = get_object_or_404(organization.invoices, pk=pk)
    if not invoice.document:
        raise Http404
    return redirect(url_of(invoice.document))


@for_members
@require_POST
def make_pdf(request: HttpRequest, organization: Organization, pk: int) -> HttpResponse:
    """Enqueue the PDF of one invoice."""
    invoice = get_object_or_404(organization.invoices, pk=pk)
    generate_invoice.using(**_asked_by(request, organization)).enqueue(invoice_id=str(invoice.pk))
    messages.success(request, f"The PDF of {invoice.number} is being made.")
    return redirect("invoice", organization.pk, invoice.pk)


@for_members
@require_POST
def make_all_pdfs(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Enqueue the PDFs of all invoices, with one INSERT."""
    rows = [{"invoice_id": str(pk)} for pk in organization.invoices.values_list("pk", flat=True)]
    generate_invoice.using(**_asked_by(request, organization)).enqueue_bulk(rows)
    messages.success(request, f"{len(rows)} PDFs are being made.")
    return redirect("invoices", organization.pk)


@for_members
@require_POST
def issue_invoice(request: HttpRequest, organization: Organization, pk: int) -> HttpResponse:
    """Issue an invoice, which enqueues its PDF and its email."""
    invoice = get_object_or_404(organization.invoices, pk=pk)
    try:
        issue(invoice, requested_by=request.user)
    except ValidationError as error:
        messages.error(request, error.messages[0])
    else:
        then = f", then mailed to {invoice.customer_email}" if invoice.customer_email else ""
        messages.success(request, f"{invoice.number} is issued: its PDF is being made{then}.")
    return redirect("invoice", organization.pk, invoice.pk)


@for_members
@require_POST
def mark_paid(request: HttpRequest, organization: Organization, pk: int) -> HttpResponse:
    invoice = get_object_or_404(organization.invoices.open(), pk=pk)
    organization.invoices.open().filter(pk=invoice.pk).update(status=Invoice.Status.PAID)
    messages.success(request, f"{invoice.number} is paid.")
    return redirect("invoice", organization.pk, invoice.pk)


@for_members
@require_POST
def bill_month(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Enqueue the invoicing of the month of the newest unbilled entry."""
    entries = TimeEntry.objects.filter(
        project__organization=organization, billable=True, invoice_line=None
    )
    newest = entries.order_by("-day").values_list("day", flat=True).first()
    if newest is None:
        messages.info(request, f"{organization.name} has no unbilled hours.")
    else:
        process_monthly_invoicing(organization.pk, f"{newest:%Y-%m}", requested_by=request.user)
        messages.success(request, f"The invoices for {newest:%B %Y} are being created.")
    return redirect("invoices", organization.pk)


def _asked_by(request: HttpRequest, organization: Organization) -> dict[str, Any]:
    return {"organization": organization, "requested_by": request.user}
