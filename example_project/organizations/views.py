"""The start page and the overview of an organization."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.auth.decorators import login_required
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from example_project.reporting.archive import reports_of, schedule_of
from example_project.timesheets.models import TimeEntry
from wellos_jobs.models import JobRecord
from wellos_jobs.states import OPEN_STATES, JobState

from .membership import for_members
from .models import Organization

LATEST = 5
NOW = OPEN_STATES - {JobState.DELAYED}


@login_required
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Redirect members to their organization; show staff a list."""
    if not request.user.is_staff and request.user.organization_id:
        return redirect("overview", request.user.organization_id)
    organizations = Organization.objects.visible_to(request.user)
    return render(request, "example/home.html", {"organizations": organizations})


@for_members
@require_safe
def overview(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Show open invoices, hours, the latest reports and running jobs."""
    open_invoices = organization.invoices.open().prefetch_related("lines")
    invoices = list(open_invoices.order_by("due_on", "number"))
    jobs = JobRecord.objects.filter(organization_id=organization.pk)
    context = {
        "organization": organization,
        "invoices": invoices[:LATEST],
        "invoice_count": len(invoices),
        "owed": sum((invoice.total for invoice in invoices), Decimal(0)),
        "hours": _hours(organization),
        "reports": reports_of(organization)[:LATEST],
        "running": jobs.filter(state__in=NOW).order_by("-created_at")[:LATEST],
        "schedule": schedule_of(organization),
    }
    return render(request, "example/overview.html", context)


def _hours(organization: Organization) -> dict[str, object]:
    """Return the minutes in the month of the newest entry, and the unbilled minutes."""
    entries = TimeEntry.objects.filter(project__organization=organization)
    newest = entries.order_by("-day").values_list("day", flat=True).first()
    if newest is None:
        return {}

    month = entries.filter(day__year=newest.year, day__month=newest.month)
    unbilled = entries.filter(billable=True, invoice_line=None)
    return {
        "month": newest,
        "minutes": month.aggregate(sum=Sum("minutes", default=0))["sum"],
        "unbilled": unbilled.aggregate(sum=Sum("minutes", default=0))["sum"],
    }
