"""Reports: register a type of report, then enqueue ``generate_report`` for it and watch its five steps.

    reports.register("hours", title="Hours", fetch=fetch_hours, columns={"person": "Person", "hours": "Hours"})
    generate_report.enqueue(report_type="hours", date_range={"start": date(2026, 1, 1), "end": date(2026, 1, 31)})

The steps are functions of the project; only ``fetch`` has no default. The file is ``reports/<job id>.pdf`` in
Django's default storage; a run that is repeated replaces it.
"""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_date

from .. import current_job, job, report_progress
from ..errors import ConfigurationError
from . import emails, pdf
from .files import StoredFile, store

QUEUE = "reports"


@dataclass(frozen=True, slots=True)
class DateRange:
    """The days a report is about, the last one included."""

    start: date
    end: date

    def __str__(self) -> str:
        return f"{self.start:%d %b %Y} to {self.end:%d %b %Y}"

    @classmethod
    def of(cls, value: Any) -> DateRange:
        """Read ``{"start", "end"}`` or a pair; each a date or its ISO text.

        Raises:
            ValidationError: it is neither, or ends before it starts.
        """
        bounds = [value.get("start"), value.get("end")] if isinstance(value, Mapping) else value
        if isinstance(bounds, (str, bytes)) or not isinstance(bounds, Sequence) or len(bounds) != 2:
            raise ValidationError(f"date_range is {value!r}: give {{'start': ..., 'end': ...}} or a pair of dates")
        start, end = (_day(bound) for bound in bounds)
        if end < start:
            raise ValidationError(f"date_range ends on {end}, before it starts on {start}")
        return cls(start, end)


@dataclass(frozen=True, slots=True)
class Content:
    """What a report shows: a table, and figures to head it. ``numeric`` columns are set flush right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    figures: Mapping[str, Any] = field(default_factory=dict)
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ReportType:
    """One kind of report: what it is called and how each step is done."""

    name: str
    title: str
    fetch: Callable[[DateRange], Any]
    process: Callable[[Any], Content]
    render: Callable[[str, DateRange, Content], bytes]
    notify: Callable[[ReportType, StoredFile, str], None]


class UnknownReport(ConfigurationError):
    """A report type that nobody has registered."""


_types: dict[str, ReportType] = {}


def register(
    name: str,
    *,
    title: str,
    fetch: Callable[[DateRange], Any],
    columns: Mapping[str, str] | None = None,
    process: Callable[[Any], Content] | None = None,
    render: Callable[[str, DateRange, Content], bytes] | None = None,
    notify: Callable[[ReportType, StoredFile, str], None] | None = None,
) -> ReportType:
    """Make a type of report known. Call it in an app's ``jobs.py``, so that workers know it too.

    ``fetch(date_range)`` returns the rows. ``process(rows)`` makes the Content of them; by default rows are
    mappings, shown in ``columns`` (key -> heading). ``render(title, date_range, content)`` returns the PDF's bytes;
    by default a ReportLab table. ``notify(report_type, file, message)`` tells people; by default a mail to
    whoever asked for the report.

    Raises:
        ValueError: the name is taken, or neither or both of ``columns`` and ``process`` are given.
    """
    if name in _types:
        raise ValueError(f"There is a report type {name!r} already: {_types[name].title!r}")
    if (columns is None) == (process is None):
        raise ValueError(f"Report type {name!r}: give either columns or process")
    chosen = process if process is not None else _tabulate(columns or {})
    _types[name] = ReportType(name, title, fetch, chosen, render or pdf.render_report, notify or mail_to_requester)
    return _types[name]


def unregister(name: str) -> None:
    """Forget a type of report."""
    _types.pop(name, None)


@job("generate-report", queue=QUEUE, max_attempts=3, discard_on=(ConfigurationError,))
def generate_report(report_type: str, date_range: Any) -> dict[str, Any]:
    """Make a report; return ``{"url", "size"}``, the size in bytes."""
    kind, days = _type(report_type), DateRange.of(date_range)
    report_progress(0, "fetching")
    rows = kind.fetch(days)
    report_progress(20, "processing")
    content = kind.process(rows)
    report_progress(60, "making the PDF")
    document = kind.render(kind.title, days, content)
    report_progress(80, "storing")
    file = store(f"reports/{_job_id()}.pdf", document)
    report_progress(90, "notifying")
    message = f"Report ready: {file.url}"
    kind.notify(kind, file, message)
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


def _type(name: str) -> ReportType:
    try:
        return _types[name]
    except KeyError:
        close = difflib.get_close_matches(name, _types, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"registered are {', '.join(sorted(_types)) or 'none'}"
        raise UnknownReport(f"There is no report type {name!r}: {hint}") from None


def _tabulate(columns: Mapping[str, str]) -> Callable[[Iterable[Mapping[str, Any]]], Content]:
    def process(rows: Iterable[Mapping[str, Any]]) -> Content:
        table = [[row[key] for key in columns] for row in rows]
        numeric = frozenset(
            place for place in range(len(columns)) if table and all(_is_number(row[place]) for row in table)
        )
        return Content(list(columns.values()), table, {"Rows": len(table)}, numeric)

    return process


def _is_number(value: Any) -> bool:
    return hasattr(value, "__round__") and not isinstance(value, bool)


def _day(value: Any) -> date:
    day = parse_date(value) if isinstance(value, str) else value
    if isinstance(day, datetime):
        return day.date()
    if not isinstance(day, date):
        raise ValidationError(f"date_range: {value!r} is not a date; write one as 2026-01-31")
    return day


def _job_id() -> str:
    running = current_job(default=None)
    return running.id if running is not None else str(uuid.uuid4())
