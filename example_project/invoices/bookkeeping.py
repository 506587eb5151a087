"""The job that sends an invoice to the customer's bookkeeping system."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import Request, urlopen

from wellos_jobs import CircuitBreaker, Discard, RateLimit, exponential, job

from .document import load_invoice

REQUEST_TIMEOUT = 10.0
BREAKER = CircuitBreaker("bookkeeping", failures=5, within=60, reset=5)


@job(
    "push-invoice",
    queue="default",
    max_attempts=5,
    backoff=exponential(1),
    timeout=60,
    limits=[RateLimit("10/s", key="bookkeeping"), BREAKER],
)
def push_invoice(invoice_id: str, url: str) -> dict[str, Any]:
    """Post an invoice to the bookkeeping system, at most ten a second and none while it is down.

    The ``Idempotency-Key`` header lets the other system recognize a repeated request. urllib's
    HTTPError has a status and headers, so a 503 is retried, a 429 is retried after its
    ``Retry-After``, and a 400 is not retried.
    """
    invoice = load_invoice(invoice_id)
    if not url.startswith(("http://", "https://")):
        raise Discard(f"Invalid URL {url!r}: it must start with http:// or https://")

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
    with urlopen(request, timeout=REQUEST_TIMEOUT) as response:
        return {"status": response.status, "answer": json.load(response)}
