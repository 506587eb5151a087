"""Issuing an invoice: its PDF, and then, as a flow, the mail that takes it to the customer.

generate-invoice ─▶ mail-invoice
   (reports)          (email)
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from wellos_jobs import Discard, Flow, job
from wellos_jobs.contrib import emails
from wellos_jobs.flows import FlowHandle

from .models import Invoice


@transaction.atomic
def issue(invoice: Invoice, **using: Any) -> FlowHandle:
    """Make a draft final, and enqueue its PDF and its mail in the same transaction.

    ``using`` are options of the jobs, such as ``requested_by``.

    Raises:
        ValidationError: it was issued before, or nobody could pay it as it is.
    """
    from .jobs import generate_invoice

    invoice.check_complete()
    drafts = Invoice.objects.filter(pk=invoice.pk, status=Invoice.Status.DRAFT)
    if not drafts.update(status=Invoice.Status.ISSUED):  # of two who press the button at once, one comes second
        raise ValidationError(f"Invoice {invoice.number} was issued before")
    data = {"invoice_id": str(invoice.pk)}
    children = [mail_invoice.with_data(**data)] if invoice.customer_email else []
    return Flow(generate_invoice.with_data(**data), children=children).enqueue(
        organization=invoice.organization_id, **using
    )


@job("mail-invoice", queue="email", max_attempts=5)
def mail_invoice(invoice_id: str) -> dict[str, Any]:
    """Mail an issued invoice to its customer."""
    invoice = Invoice.objects.select_related("organization").prefetch_related("lines").filter(pk=invoice_id).first()
    if invoice is None:
        raise Discard(f"There is no invoice {invoice_id}")
    organization = invoice.organization
    text = f"Invoice {invoice.number} over {invoice.total:,.2f} {invoice.currency} is due on {invoice.due_on:%d %B %Y}."
    data = {"name": invoice.customer_name, "text": f"{text}\n\n{organization.name}"}
    subject = f"Invoice {invoice.number} from {organization.name}"
    return emails.deliver(invoice.customer_email, subject, "announcement", data, attachments=[invoice.document])
