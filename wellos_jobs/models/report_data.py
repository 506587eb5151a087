"""The name of an organization's report schedule, and validation of its job's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

REPORT_PREFIX = "org-report:"
REPORT_FORMATS = ("pdf", "csv")


def report_errors(
    data: Mapping[str, Any], organization_id: str, schedule_name: str
) -> dict[str, str]:
    """Return the errors of a report schedule, keyed by its column.

    Schedule, job and data are of one organization: the one in the schedule's name.
    """
    expected = schedule_name.removeprefix(REPORT_PREFIX)
    if organization_id != expected:
        text = f"organization is {organization_id!r}: {schedule_name!r} is for {expected!r}"
        return {"organization_id": text}
    if data.get("organization_id", expected) != expected:
        return {"data": f"organization_id is {data['organization_id']!r}: it must be {expected!r}"}

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
