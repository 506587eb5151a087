"""The types of report that a project has registered: what each is called, and how its steps are done.

Knowing them declares no job, so the admin may look here whether or not ``wellos_jobs.contrib`` is
installed.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_date

from ..errors import ConfigurationError
from . import pdf
from .files import StoredFile


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
            raise ValidationError(
                f"date_range is {value!r}: give {{'start': ..., 'end': ...}} or a pair of dates"
            )
        start, end = (_day(bound) for bound in bounds)
        if end < start:
            raise ValidationError(f"date_range ends on {end}, before it starts on {start}")
        return cls(start, end)


@dataclass(frozen=True, slots=True)
class Content:
    """What a report shows: a table, and figures to head it. ``numeric`` columns are set flush right.

    ``rows`` may be an iterator, which is read once: row by row into a CSV file, as a whole into a
    PDF.
    """

    headings: Sequence[str]
    rows: Iterable[Sequence[Any]]
    figures: Mapping[str, Any] = field(default_factory=dict)
    numeric: frozenset[int] | None = frozenset()
    """None: those in which every row has a number."""

    def complete(self) -> Content:
        """Return it with all rows read, as a PDF needs it; without figures the number of rows is one."""
        rows = list(self.rows)
        numeric = self.numeric if self.numeric is not None else _numeric(rows, len(self.headings))
        return Content(self.headings, rows, self.figures or {"Rows": len(rows)}, numeric)


@dataclass(frozen=True, slots=True)
class ReportType:
    """One kind of report: what it is called and how each step is done."""

    name: str
    title: str
    fetch: Callable[..., Any]
    process: Callable[[Any], Content]
    render: Callable[[str, DateRange, Content], bytes]
    notify: Callable[[ReportType, StoredFile, str], None] | None
    for_organizations: bool
    """Whether ``fetch`` takes an organization, so that the report can be made of its data alone."""

    def rows(self, days: DateRange, organization: str) -> Any:
        """Fetch the rows, of one organization if its id is given and ``fetch`` takes it."""
        return (
            self.fetch(days, organization=organization)
            if self.for_organizations
            else self.fetch(days)
        )


class UnknownReport(ConfigurationError):
    """A report type that nobody has registered, or that cannot be made for what it was asked for."""


_types: dict[str, ReportType] = {}


def register(
    name: str,
    *,
    title: str,
    fetch: Callable[..., Any],
    columns: Mapping[str, str] | None = None,
    process: Callable[[Any], Content] | None = None,
    render: Callable[[str, DateRange, Content], bytes] | None = None,
    notify: Callable[[ReportType, StoredFile, str], None] | None = None,
) -> ReportType:
    """Make a type of report known. Call it in an app's ``jobs.py``, so that workers know it too.

    ``fetch(date_range)`` returns the rows; one that also takes ``organization`` gets the
    organization's id, or '' when the report is not for one, and may then be scheduled for
    organizations. ``process(rows)`` makes the Content of them; by default rows are mappings, shown
    in ``columns`` (key -> heading). Rows that ``fetch`` yields are streamed into a CSV file.
    ``render(title, date_range, content)`` returns the PDF's bytes; by default a ReportLab table.
    ``notify(report_type, file, message)`` tells people of a report that was asked for; by default a
    mail to whoever asked.

    Raises:
        ValueError: the name is taken, or neither or both of ``columns`` and ``process`` are given.
    """
    if name in _types:
        raise ValueError(f"There is a report type {name!r} already: {_types[name].title!r}")
    if (columns is None) == (process is None):
        raise ValueError(f"Report type {name!r}: give either columns or process")
    chosen = process if process is not None else _tabulate(columns or {})
    takes_organization = _takes(fetch, "organization")
    _types[name] = ReportType(
        name, title, fetch, chosen, render or pdf.render_report, notify, takes_organization
    )
    return _types[name]


def unregister(name: str) -> None:
    """Forget a type of report."""
    _types.pop(name, None)


def find(name: str) -> ReportType:
    """Return the type of report of this name.

    Raises:
        UnknownReport: there is none; the text names the near miss.
    """
    try:
        return _types[name]
    except KeyError:
        raise UnknownReport(f"There is no report type {name!r}: {_hint(name, _types)}") from None


def for_organizations() -> list[ReportType]:
    """Return the types that can be made of one organization's data, as they were registered."""
    return [kind for kind in _types.values() if kind.for_organizations]


def find_for_organizations(name: str) -> ReportType:
    """Return the type of this name that organizations may have; for '' the first that was registered.

    Raises:
        UnknownReport: there is none, or its ``fetch`` knows no organizations, so that it would show
            everybody's data.
    """
    if not name:
        for kind in for_organizations():
            return kind
        raise UnknownReport(
            "No report type can be made for organizations: register one whose fetch takes organization"
        )
    kind = find(name)
    if not kind.for_organizations:
        raise UnknownReport(
            f"Report type {name!r} shows everybody's data: its fetch takes no argument 'organization'"
        )
    return kind


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        parameter = inspect.signature(function).parameters.get(name)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return False
    return parameter is not None and parameter.kind is not parameter.POSITIONAL_ONLY


def _hint(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"did you mean {close[0]!r}?" if close else f"registered are {', '.join(known) or 'none'}"
    )


def _tabulate(columns: Mapping[str, str]) -> Callable[[Iterable[Mapping[str, Any]]], Content]:
    def process(rows: Iterable[Mapping[str, Any]]) -> Content:
        return Content(
            list(columns.values()), ([row[key] for key in columns] for row in rows), numeric=None
        )

    return process


def _numeric(rows: Sequence[Sequence[Any]], columns: int) -> frozenset[int]:
    return frozenset(
        place for place in range(columns) if rows and all(_is_number(row[place]) for row in rows)
    )


def _is_number(value: Any) -> bool:
    return hasattr(value, "__round__") and not isinstance(value, bool)


def _day(value: Any) -> date:
    day = parse_date(value) if isinstance(value, str) else value
    if isinstance(day, datetime):
        return day.date()
    if not isinstance(day, date):
        raise ValidationError(f"date_range: {value!r} is not a date; write one as 2026-01-31")
    return day
