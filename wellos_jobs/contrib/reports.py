"""Reports: register a type of report, then enqueue ``generate_report`` for it and watch its five steps.

    reports.register("hours", title="Hours", fetch=fetch_hours, columns={"person": "Person",
    "hours": "Hours"}) generate_report.enqueue(report_type="hours", date_range={"start": date(2026,
    1, 1), "end": date(2026, 1, 31)})

The steps are functions of the project; only ``fetch`` has no default. The file is ``reports/<job
id>.pdf``, or ``.csv``, in the storage; a run that is repeated replaces it. Rows that are an
iterator stay one on their way into a CSV file, however many there are.
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
def generate_report(report_type: str, date_range: Any, format: str = "pdf") -> dict[str, Any]:
    """Make a report as ``pdf`` or ``csv``; return ``{"url", "size"}``, the size in bytes.

    It is of the organization of the job, if the job has one and the report type knows
    organizations.

    Raises:
        UnknownReport: the type does not exist.
        ValidationError: the days or the format cannot be meant.
    """
    kind, days = find(report_type), DateRange.of(date_range)
    if format not in REPORT_FORMATS:
        raise ValidationError(
            f"format is {format!r}: reports are made as {' or '.join(REPORT_FORMATS)}"
        )
    running = current_job(default=None)
    file = make(
        kind,
        days,
        kind.title,
        organization=running.organization_id if running else "",
        format=format,
    )
    notify = kind.notify or mail_to_requester
    return announce(file, lambda message: notify(kind, file, message))


def make(
    kind: ReportType, days: DateRange, title: str, *, organization: str = "", format: str = "pdf"
) -> StoredFile:
    """Fetch, process, render as ``pdf`` or ``csv``, and store, telling the progress of each step."""
    report_progress(0, "fetching")
    rows = kind.rows(days, organization)
    report_progress(20, "processing")
    content = kind.process(rows)  # of rows that are streamed only their form is known by now
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
    """Enqueue a mail with the report's address to the user who asked for it, if there is one with a mail address.

    Its id is made from the report's: a report made again sends no second mail.
    """
    running = current_job(default=None)
    if running is None or not running.requested_by_id:
        return
    user = (
        get_user_model()._default_manager.filter(pk=running.requested_by_id, is_active=True).first()
    )
    if user is None or not getattr(user, user.get_email_field_name(), ""):
        return
    data = {
        "name": emails.name_of(user),
        "title": kind.title,
        "url": absolute(file.url),
        "message": message,
    }
    enqueue(
        emails.email_job.name,
        {
            "to": emails.address_of(user),
            "subject": f"Report ready: {kind.title}",
            "template": "report-ready",
            "data": data,
        },
        JobOptions(
            id=f"report-ready:{running.id}",
            organization=running.organization_id,
            requested_by=running.requested_by_id,
            database=running.database,
        ),
    )


@contextlib.contextmanager
def _document(
    kind: ReportType, title: str, days: DateRange, content: Content, format: str
) -> Iterator[bytes | IO[bytes]]:
    if format == "csv":
        with csv_table.written(content.headings, content.rows) as file:
            yield file
    else:
        yield kind.render(title, days, content.complete())


def _job_id() -> str:
    running = current_job(default=None)
    return running.id if running is not None else str(uuid.uuid4())
