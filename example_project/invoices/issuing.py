"""Issue an invoice and email it. The trigger in ``jobs.py`` enqueues the jobs."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.dispatch import Signal

from wellos_jobs import job
from wellos_jobs.contrib import emails

from .document import load_invoice
from .models import Invoice

invoice_issued = Signal()
"""Sent in the transaction that issues a draft; arguments ``instance`` and ``requested_by`` (a user
or None).

``post_save`` would be sent again for each later change of the invoice.
"""


@transaction.atomic
def issue(invoice: Invoice, requested_by: Any = None) -> None:
    """Issue a draft. Its PDF and its email are enqueued in the same transaction.

    Raises:
        ValidationError: it is issued already, or incomplete.
    """
    invoice.check_complete()
    drafts = Invoice.objects.filter(pk=invoice.pk, status=Invoice.Status.DRAFT)
    if not drafts.update(status=Invoice.Status.ISSUED):  # safe if two users issue it at once
        raise ValidationError(f"Invoice {invoice.number} was issued before")

    invoice.status = Invoice.Status.ISSUED
    invoice_issued.send(sender=Invoice, instance=invoice, requested_by=requested_by)


@job("mail-invoice", queue="email", max_attempts=5)
def mail_invoice(invoice_id: str) -> dict[str, Any]:
    """Mail an issued invoice to its customer."""
    invoice = load_invoice(invoice_id)
    organization = invoice.organization
    text = (
        f"Invoice {invoice.number} for {invoice.total:,.2f} {invoice.currency} "
        f"is due on {invoice.due_on:%d %B %Y}."
    )
    data = {"name": invoice.customer_name, "text": f"{text}\n\n{organization.name}"}
    subject = f"Invoice {invoice.number} from {organization.name}"
    return emails.deliver(
        invoice.customer_email, subject, "announcement", data, attachments=[invoice.document]
    )
