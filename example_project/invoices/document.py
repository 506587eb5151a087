"""The job that makes an invoice's file."""

from __future__ import annotations

from typing import Any

from wellos_jobs import Discard, job, report_progress
from wellos_jobs.contrib.files import store

from . import pdf
from .models import Invoice

RENDERERS = {"pdf": pdf.render}


@job("generate-invoice", queue="reports", max_attempts=3, timeout=120)
def generate_invoice(invoice_id: str, format: str = "pdf") -> dict[str, Any]:
    """Store an invoice as ``invoices/<id>.<format>`` and return the file's URL and size.

    Raises:
        Discard: the invoice does not exist, or the format is unknown.
        IncompleteInvoice: the invoice has no customer or no lines.
    """
    if format not in RENDERERS:
        raise Discard(f"Unknown invoice format {format!r}: use {' or '.join(RENDERERS)}")

    invoice = load_invoice(invoice_id)
    invoice.check_complete()

    report_progress(20, f"rendering {invoice.number}")
    content = RENDERERS[format](invoice)

    report_progress(80, "storing")
    file = store(f"invoices/{invoice.pk}.{format}", content)
    Invoice.objects.filter(pk=invoice.pk).update(document=file.name)

    report_progress(100, f"{invoice.number} is ready")
    return {"url": file.url, "size": file.size}


def load_invoice(invoice_id: str) -> Invoice:
    """Return the invoice with its organization and lines.

    Raises:
        Discard: it does not exist, so another attempt would not help.
    """
    invoices = Invoice.objects.select_related("organization").prefetch_related("lines")
    invoice = invoices.filter(pk=invoice_id).first()
    if invoice is None:
        raise Discard(f"There is no invoice {invoice_id}")
    return invoice
