"""The name of an organization's report schedule, and validation of its job's data."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

REPORT_PREFIX = "org-report:"
REPORT_FORMATS = ("pdf", "csv")


def report_errors(data: dict[str, Any]) -> dict[str, str]:
    """Return the errors in a report job's data, keyed by the schedule's column."""
    format = data.get("format", REPORT_FORMATS[0])
    if format not in REPORT_FORMATS:
        return {"data": f"format is {format!r}: use one of {', '.join(REPORT_FORMATS)}"}

    recipients = data.get("recipients", [])
    if not isinstance(recipients, list | tuple):
        return {"data": f"recipients is {recipients!r}: give a list of email addresses"}

    for address in recipients:
        try:
            validate_email(address)
        except ValidationError:
            return {"data": f"recipients has {address!r}, which is not an email address"}
    return {}
