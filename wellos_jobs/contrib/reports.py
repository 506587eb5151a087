"""Reports as PDF or CSV files. Register a report type, then enqueue ``generate_report`` for it:

    reports.register(
        "hours",
        title="Hours",
        fetch=fetch_hours,
        columns={"person": "Person", "hours": "Hours"},
    )
    generate_report.enqueue(
        report_type="hours", date_range={"start": date(2026, 1, 1), "end": date(2026, 1, 31)}
    )

The project provides the steps as functions; all but ``fetch`` have a default. The file is stored as
``reports/<job id>.pdf`` or ``.csv``, and a repeated run replaces it. Rows from an iterator are
streamed into a CSV file, so there may be any number of them.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import IO, Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from .. import JobOptions, current_job, enqueue, job, report_progress
from ..errors import ConfigurationError
from ..models.report_data import REPORT_FORMATS
from . import csv_table, emails
from .files import StoredFile, absolute, store
from .report_content import Content, DateRange
from .report_types import ReportType, UnknownReport, find, register, unregister

__all__ = [
    "Content",
    "DateRange",
    "ReportType",
    "UnknownReport",
    "announce",
    "generate_report",
    "mail_to_requester",
    "make",
    "register",
    "unregister",
]

QUEUE = "reports"


@job("generate-report", queue=QUEUE, max_attempts=3, discard_on=(ConfigurationError,))
def generate_report(report_type: str, date_range: Any, format: str = "pdf") -> dict[str, Any]:
    """Make a report as ``pdf`` or ``csv`` and return its URL and its size in bytes.

    If the job has an organization and the report type supports it, the report is limited to that
    organization's data.

    Raises:
        UnknownReport: the type is not registered.
        ValidationError: the date range or the format is invalid.
    """
    kind, days = find(report_type), DateRange.of(date_range)
    if format not in REPORT_FORMATS:
        raise ValidationError(f"Unknown format {format!r}: use {' or '.join(REPORT_FORMATS)}")

    running = current_job(default=None)
    organization = running.organization_id if running else ""
    file = make(kind, days, kind.title, organization=organization, format=format)

    notify = kind.notify or mail_to_requester
    return announce(file, lambda message: notify(kind, file, message))


def make(
    kind: ReportType, days: DateRange, title: str, *, organization: str = "", format: str = "pdf"
) -> StoredFile:
    """Fetch, process, render and store a report, and report the progress of each step."""
    report_progress(0, "fetching")
    rows = kind.rows(days, organization)

    report_progress(20, "processing")
    content = kind.process(rows)  # streamed rows are read only when the file is written

    report_progress(60, f"making the {format.upper()}")
    with _document(kind, title, days, content, format) as document:
        report_progress(80, "storing")
        return store(f"reports/{_job_id()}.{format}", document)


def announce(file: StoredFile, notify: Callable[[str], None]) -> dict[str, Any]:
    """Announce that a report is ready, and return the job's result."""
    report_progress(90, "notifying")
    message = f"Report ready: {file.url}"
    notify(message)
    report_progress(100, message)
    return {"url": file.url, "size": file.size}


def mail_to_requester(kind: ReportType, file: StoredFile, message: str) -> None:
    """Enqueue an email with the report's link to the user who requested it.

    Does nothing without such a user or without an email address. The email's job id is derived from
    the report's, so a repeated run sends no second email.
    """
    running = current_job(default=None)
    if running is None or not running.requested_by_id:
        return
    users = get_user_model()._default_manager.filter(pk=running.requested_by_id, is_active=True)
    user = users.first()
    if user is None or not getattr(user, user.get_email_field_name(), ""):
        return

    mail = {
        "to": emails.address_of(user),
        "subject": f"Report ready: {kind.title}",
        "template": "report-ready",
        "data": {
            "name": emails.name_of(user),
            "title": kind.title,
            "url": absolute(file.url),
            "message": message,
        },
    }
    options = JobOptions(
        id=f"report-ready:{running.id}",
        organization=running.organization_id,
        requested_by=running.requested_by_id,
        database=running.database,
    )
    enqueue(emails.email_job.name, mail, options)


@contextlib.contextmanager
def _document(
    kind: ReportType, title: str, days: DateRange, content: Content, format: str
) -> Iterator[bytes | IO[bytes]]:
    if format == "csv":
        with csv_table.csv_file(content.headings, content.rows) as file:
            yield file
    else:
        yield kind.render(title, days, content.complete())


def _job_id() -> str:
    running = current_job(default=None)
    return running.id if running is not None else str(uuid.uuid4())
