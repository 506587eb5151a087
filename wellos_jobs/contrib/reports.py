"""Reports: register a type of report, then enqueue ``generate_report`` for it and watch its five steps.

    reports.register("hours", title="Hours", fetch=fetch_hours, columns={"person": "Person", "hours": "Hours"})
    generate_report.enqueue(report_type="hours", date_range={"start": date(2026, 1, 1), "end": date(2026, 1, 31)})

The steps are functions of the project; only ``fetch`` has no default. The file is ``reports/<job id>.pdf`` in
Django's default storage; a run that is repeated replaces it.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import IO, Any

from django.contrib.auth import get_user_model

from .. import current_job, job, report_progress
from ..errors import ConfigurationError
from . import csv_table, emails
from .files import StoredFile, store
from .report_types import Content, DateRange, ReportType, UnknownReport, find, register, unregister

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
def generate_report(report_type: str, date_range: Any) -> dict[str, Any]:
    """Make a report; return ``{"url", "size"}``, the size in bytes.

    It is of the organization of the job, if the job has one and the report type knows organizations.
    """
    kind, days = find(report_type), DateRange.of(date_range)
    running = current_job(default=None)
    file = make(kind, days, kind.title, organization=running.organization_id if running else "")
    notify = kind.notify or mail_to_requester
    return announce(file, lambda message: notify(kind, file, message))


def make(kind: ReportType, days: DateRange, title: str, *, organization: str = "", format: str = "pdf") -> StoredFile:
    """Fetch, process, render as ``pdf`` or ``csv``, and store, telling the progress of each step."""
    report_progress(0, "fetching")
    rows = kind.rows(days, organization)
    report_progress(20, "processing")
    content = kind.process(rows)
    report_progress(60, f"making the {format.upper()}")
    with _document(kind, title, days, content, format) as document:
        report_progress(80, "storing")
        return store(f"reports/{_job_id()}.{format}", document)


def announce(file: StoredFile, notify: Callable[[str], None]) -> dict[str, Any]:
    """Tell people that a report is ready, and return what the job's result says of it."""
    report_progress(90, "notifying")
    message = f"Report ready: {file.url}"
    notify(message)
    report_progress(100, message)
    return {"url": file.url, "size": file.size}


def mail_to_requester(kind: ReportType, file: StoredFile, message: str) -> None:
    """Mail the report's address to the user who asked for it, if there is one with a mail address."""
    running = current_job(default=None)
    if running is None or not running.requested_by_id:
        return
    user = get_user_model()._default_manager.filter(pk=running.requested_by_id, is_active=True).first()
    if user is None or not getattr(user, user.get_email_field_name(), ""):
        return
    data = {"name": emails.name_of(user), "title": kind.title, "url": file.url, "message": message}
    emails.deliver(emails.address_of(user), f"Report ready: {kind.title}", "report-ready", data)


@contextlib.contextmanager
def _document(
    kind: ReportType, title: str, days: DateRange, content: Content, format: str
) -> Iterator[bytes | IO[bytes]]:
    if format == "csv":
        with csv_table.written(content.headings, content.rows) as file:
            yield file
    else:
        yield kind.render(title, days, content)


def _job_id() -> str:
    running = current_job(default=None)
    return running.id if running is not None else str(uuid.uuid4())
