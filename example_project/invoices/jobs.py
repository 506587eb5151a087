"""All jobs of this app, and the trigger that runs when an invoice is issued:

generate-invoice ─▶ mail-invoice
   (reports)          (email)
"""

from __future__ import annotations

from wellos_jobs import Flow, enqueue_on

from .bookkeeping import push_invoice
from .document import generate_invoice
from .issuing import invoice_issued, mail_invoice
from .models import Invoice
from .monthly import process_monthly_invoicing
from .recurring import daily_revenue_report, monthly_billing

__all__ = [
    "daily_revenue_report",
    "generate_invoice",
    "mail_invoice",
    "monthly_billing",
    "process_monthly_invoicing",
    "push_invoice",
]


def pdf_then_mail(instance: Invoice) -> Flow:
    """Make the PDF of an issued invoice, then mail it if the customer has an email address."""
    data = {"invoice_id": str(instance.pk)}
    children = [mail_invoice.with_data(**data)] if instance.customer_email else []
    return Flow(generate_invoice.with_data(**data), children=children)


issued = enqueue_on(
    invoice_issued,
    sender=Invoice,
    makes=pdf_then_mail,
    options=lambda instance, requested_by: {
        "organization": instance.organization_id,
        "requested_by": requested_by,
    },
)
"""Enqueues in the transaction that issues the invoice: both are committed, or neither is."""
