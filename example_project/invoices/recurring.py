"""Scheduled jobs: the revenue of the previous day, and monthly billing. Also the revenue report."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from example_project.organizations.models import Organization
from wellos_jobs import JobOptions, current_job, enqueue_bulk, job
from wellos_jobs.contrib import reports
from wellos_jobs.contrib.emails import email_job
from wellos_jobs.cron import Cron
from wellos_jobs.models import JobRecord

from .models import Invoice
from .monthly import monthly_invoicing, process_monthly_invoicing, unbilled

QUEUE = "scheduled-tasks"
NEW_YORK = ZoneInfo("America/New_York")


@job("daily-revenue-report", queue=QUEUE, schedule=Cron("0 8 * * *", tz=NEW_YORK))
def daily_revenue_report() -> dict[str, Any]:
    """Email staff the revenue of the previous day; return it by organization."""
    day = _due().astimezone(NEW_YORK).date() - timedelta(days=1)
    revenue: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for invoice in _invoices(reports.DateRange(day, day)).prefetch_related("lines"):
        revenue[invoice.organization.name, invoice.currency] += invoice.total

    lines = {name: f"{total} {currency}" for (name, currency), total in sorted(revenue.items())}
    text = "\n".join(f"{name}: {total}" for name, total in lines.items()) or "Nothing was billed."
    _mail_staff(f"Revenue of {day:%d %b %Y}", text)
    return {"day": f"{day}", "revenue": lines}


@job("monthly-billing", queue=QUEUE, schedule=Cron("0 0 1 * *"))
def monthly_billing() -> dict[str, Any]:
    """Enqueue the previous month's invoicing of each organization with unbilled entries.

    Organizations whose invoicing was enqueued already are left out.
    """
    month = f"{_due().date().replace(day=1) - timedelta(days=1):%Y-%m}"
    with transaction.atomic():
        wanted = [one.pk for one in Organization.objects.all() if unbilled(one.pk, month).exists()]
        begun = JobRecord.objects.filter(
            name=monthly_invoicing.name, organization_id__in=wanted, data__month=month
        )
        missing = sorted(set(wanted) - set(begun.values_list("organization_id", flat=True)))
        for organization_id in missing:
            process_monthly_invoicing(organization_id, month)
    return {"month": month, "organizations": missing}


def fetch_revenue(days: reports.DateRange, organization: str = "") -> list[dict[str, Any]]:
    """Return the invoices of a date range, of one organization or of all."""
    invoices = _invoices(days).prefetch_related("lines")
    if organization:
        invoices = invoices.filter(organization=organization)
    return [
        {
            "number": one.number,
            "customer": one.customer_name,
            "issued": one.issued_on,
            "total": one.total,
            "currency": one.currency,
        }
        for one in invoices
    ]


reports.register(
    "revenue",
    title="Revenue",
    fetch=fetch_revenue,
    columns={
        "number": "Invoice",
        "customer": "Customer",
        "issued": "Issued",
        "total": "Total",
        "currency": "Currency",
    },
)


def _invoices(days: reports.DateRange) -> Any:
    return Invoice.objects.filter(issued_on__range=(days.start, days.end)).select_related(
        "organization"
    )


def _due() -> datetime:
    running = current_job(default=None)
    return (running and running.due_at) or timezone.now()


def _mail_staff(subject: str, text: str) -> None:
    """Enqueue an email to each member of staff. A repeated run sends no second one."""
    running = current_job(default=None)
    mails = []
    for user in get_user_model().objects.filter(is_staff=True, is_active=True).exclude(email=""):
        data = {
            "to": user.email,
            "subject": subject,
            "template": "announcement",
            "data": {"name": user.get_full_name(), "text": text},
        }
        options = JobOptions(id=f"{running.id}:{user.pk}" if running else None)
        mails.append((email_job.name, data, options))
    enqueue_bulk(mails)
