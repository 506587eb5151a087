"""Jobs about invoices: make the file, send it to the customer's books; and what follows when one is
issued.

generate-invoice ─▶ mail-invoice
   (reports)          (email)
"""

from __future__ import annotations

import json
from typing import Any
from urllib.request import Request, urlopen

from wellos_jobs import (
    CircuitBreaker,
    Discard,
    Flow,
    RateLimit,
    enqueue_on,
    exponential,
    job,
    report_progress,
)
from wellos_jobs.contrib.files import store

from . import pdf
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

RENDERERS = {"pdf": pdf.render}
CALL_SECONDS = 10.0
BREAKER = CircuitBreaker("bookkeeping", failures=5, within=60, reset=5)


@job("generate-invoice", queue="reports", max_attempts=3, timeout=120)
def generate_invoice(invoice_id: str, format: str = "pdf") -> dict[str, Any]:
    """Make an invoice's file ``invoices/<id>.<format>`` in the default storage; return its url and
    size.

    Raises:
        Discard: there is no such invoice or format.
        IncompleteInvoice: the invoice has no customer or no lines.
    """
    if format not in RENDERERS:
        raise Discard(f"Invoices are made as {', '.join(RENDERERS)}, not {format!r}")
    invoice = _invoice(invoice_id)
    invoice.check_complete()
    report_progress(20, f"rendering {invoice.number}")
    content = RENDERERS[format](invoice)
    report_progress(80, "storing")
    file = store(f"invoices/{invoice.pk}.{format}", content)
    Invoice.objects.filter(pk=invoice.pk).update(document=file.name)
    report_progress(100, f"{invoice.number} is ready")
    return {"url": file.url, "size": file.size}


def pdf_then_mail(instance: Invoice) -> Flow:
    """Make the PDF of an issued invoice, and then the mail that takes it along, if there is
    somebody to mail it to."""
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
"""There is no issued invoice without its jobs, and no job for one that was rolled back."""


@job(
    "push-invoice",
    queue="default",
    max_attempts=5,
    backoff=exponential(1),
    timeout=60,
    limits=[RateLimit("10/s", key="bookkeeping"), BREAKER],
)
def push_invoice(invoice_id: str, url: str) -> dict[str, Any]:
    """Post an invoice to the customer's bookkeeping system: ten a second at most, and none while it
    is down.

    The invoice's key goes along, by which the other side knows a repeated call. urllib's HTTPError
    has a status and headers, so a 503 is retried, a 429 after its ``Retry-After``, and a 400 is
    not.
    """
    invoice = _invoice(invoice_id)
    if not url.startswith(("http://", "https://")):
        raise Discard(f"{url!r} is not a web address")
    body = {
        "number": invoice.number,
        "customer": invoice.customer_name,
        "total": str(invoice.total),
    }
    request = Request(  # noqa: S310
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": f"invoice-{invoice.pk}"},
        method="POST",
    )
    with urlopen(request, timeout=CALL_SECONDS) as response:
        return {"status": response.status, "answer": json.load(response)}


def _invoice(invoice_id: str) -> Invoice:
    invoice = (
        Invoice.objects.select_related("organization")
        .prefetch_related("lines")
        .filter(pk=invoice_id)
        .first()
    )
    if invoice is None:
        raise Discard(f"There is no invoice {invoice_id}")
    return invoice
