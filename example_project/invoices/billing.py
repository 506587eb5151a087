"""Create invoices from time entries."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal

from django.db import transaction

from example_project.timesheets.models import Project, TimeEntry

from .models import Invoice, InvoiceLine, cents

PAYMENT_PERIOD = timedelta(days=30)


@transaction.atomic
def bill(project: Project, number: str, start: date, end: date, *, tax_rate: Decimal) -> Invoice:
    """Invoice the unbilled entries of these days, with a line for each description."""
    invoice = Invoice.objects.create(
        organization=project.organization,
        project=project,
        number=number,
        customer_name=project.customer_name,
        customer_address=project.customer_address,
        customer_email=project.customer_email,
        issued_on=end,
        due_on=end + PAYMENT_PERIOD,
        currency=project.organization.currency,
        tax_rate=tax_rate,
    )

    entries = project.entries.filter(day__range=(start, end), billable=True, invoice_line=None)
    by_description: dict[str, list[TimeEntry]] = defaultdict(list)
    for entry in entries.select_for_update():
        by_description[entry.description].append(entry)

    for position, (description, group) in enumerate(sorted(by_description.items()), start=1):
        hours = cents(Decimal(sum(entry.minutes for entry in group)) / 60)
        line = InvoiceLine.objects.create(
            invoice=invoice,
            position=position,
            description=description,
            hours=hours,
            rate=project.hourly_rate,
        )
        TimeEntry.objects.filter(pk__in=[entry.pk for entry in group]).update(invoice_line=line)
    return invoice
