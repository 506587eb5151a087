"""What the schedule of an organization's report is called, and which data its job takes."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

REPORT_PREFIX = "org-report:"
REPORT_FORMATS = ("pdf", "csv")


def report_faults(data: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with the data of a report's job, by the schedule's column."""
    format, recipients = data.get("format", REPORT_FORMATS[0]), data.get("recipients", [])
    if format not in REPORT_FORMATS:
        return {
            "data": f"format is {format!r}: a report is made as one of {', '.join(REPORT_FORMATS)}"
        }
    if not isinstance(recipients, list | tuple):
        return {"data": f"recipients is {recipients!r}: give a list of mail addresses"}
    for address in recipients:
        try:
            validate_email(address)
        except ValidationError:
            return {"data": f"recipients has {address!r}, which is not a mail address"}
    return {}
