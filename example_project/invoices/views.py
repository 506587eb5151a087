"""The landing page: invoices, buttons that enqueue, and how the jobs fare."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from example_project.organizations.models import Organization
from example_project.timesheets.models import TimeEntry
from wellos_jobs.models import JobRecord

from .jobs import generate_invoice, process_monthly_invoicing
from .models import Invoice

RECENT = 10


@login_required
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show the invoices the user may see, by organization, and the user's latest jobs."""
    invoices = _visible(request).select_related("organization").prefetch_related("lines")
    jobs = JobRecord.objects.filter(requested_by=request.user).order_by("-created_at")[:RECENT]
    context = {
        "organizations": [(key, list(group)) for key, group in groupby(invoices, lambda one: one.organization)],
        "jobs": jobs,
    }
    return render(request, "example/home.html", context)


@login_required
@require_POST
def make_pdf(request: HttpRequest, pk: int) -> HttpResponse:
    """Enqueue the PDF of one invoice."""
    invoice = get_object_or_404(_visible(request), pk=pk)
    generate_invoice.using(**_asked_by(request, invoice)).enqueue(invoice_id=str(invoice.pk))
    messages.success(request, f"The PDF of {invoice.number} is being made.")
    return redirect("home")


@login_required
@require_POST
def make_all_pdfs(request: HttpRequest, slug: str) -> HttpResponse:
    """Enqueue the PDFs of all invoices of one organization."""
    invoices = list(_visible(request).filter(organization=slug))
    if not invoices:
        raise Http404
    rows = [{"invoice_id": str(invoice.pk)} for invoice in invoices]
    generate_invoice.using(**_asked_by(request, invoices[0])).enqueue_bulk(rows)
    messages.success(request, f"{len(rows)} PDFs are being made.")
    return redirect("home")


@login_required
@require_POST
def bill_month(request: HttpRequest, slug: str) -> HttpResponse:
    """Enqueue the invoicing of one organization for the month of its newest entry that is not billed."""
    organization = get_object_or_404(_organizations(request), pk=slug)
    entries = TimeEntry.objects.filter(project__organization=organization, billable=True, invoice_line=None)
    newest = entries.order_by("-day").values_list("day", flat=True).first()
    if newest is None:
        messages.info(request, f"{organization.name} has nothing to bill.")
        return redirect("home")
    process_monthly_invoicing(organization.pk, f"{newest:%Y-%m}", requested_by=request.user)
    messages.success(request, f"{organization.name} is being billed for {newest:%B %Y}.")
    return redirect("home")


def _organizations(request: HttpRequest) -> QuerySet[Organization]:
    if request.user.is_staff:
        return Organization.objects.all()
    return Organization.objects.filter(pk=request.user.organization_id or "")


def _visible(request: HttpRequest) -> QuerySet[Invoice]:
    if request.user.is_staff:
        return Invoice.objects.all()
    return Invoice.objects.filter(organization=request.user.organization_id or "")


def _asked_by(request: HttpRequest, invoice: Invoice) -> dict[str, Any]:
    return {"organization": invoice.organization_id, "requested_by": request.user}
