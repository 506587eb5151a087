"""The registry of report types.

This module declares no job, so the admin may import it whether or not ``wellos_jobs.contrib`` is
installed.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from . import pdf
from .files import StoredFile
from .report_content import Content, DateRange


@dataclass(frozen=True, slots=True)
class ReportType:
    """A kind of report: its name, its title and the function for each step."""

    name: str
    title: str
    fetch: Callable[..., Any]
    process: Callable[[Any], Content]
    render: Callable[[str, DateRange, Content], bytes]
    notify: Callable[[ReportType, StoredFile, str], None] | None
    for_organizations: bool
    """Whether ``fetch`` takes an organization id and returns only that organization's data."""

    def rows(self, days: DateRange, organization: str) -> Any:
        """Fetch the rows. ``organization`` is passed on only if ``fetch`` takes it."""
        if self.for_organizations:
            return self.fetch(days, organization=organization)
        return self.fetch(days)


class UnknownReport(ConfigurationError):
    """The report type is not registered, or it cannot be limited to one organization."""


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
    """Register a report type. Call it in an app's ``jobs.py``, so that workers import it too.

    ``fetch(date_range)`` returns the rows. If it also takes ``organization``, it gets the
    organization's id, or '' for all organizations, and the report may be scheduled for one
    organization. Rows from an iterator are streamed into a CSV file.

    ``process(rows)`` turns the rows into a Content. By default, rows are mappings and ``columns``
    (key -> heading) says which keys are shown.

    ``render(title, date_range, content)`` returns a PDF as bytes; by default a ReportLab table.

    ``notify(report_type, file, message)`` announces a finished report; by default by email to the
    user who requested it. It is not called for scheduled reports.

    Raises:
        ValueError: the name is taken, or not exactly one of ``columns`` and ``process`` is given.
    """
    if name in _types:
        raise ValueError(
            f"Report type {name!r} is already registered, with the title {_types[name].title!r}"
        )
    if (columns is None) == (process is None):
        raise ValueError(f"Report type {name!r}: give either columns or process")

    _types[name] = ReportType(
        name,
        title,
        fetch=fetch,
        process=process if process is not None else _tabulate(columns or {}),
        render=render or pdf.render_report,
        notify=notify,
        for_organizations=_takes(fetch, "organization"),
    )
    return _types[name]


def unregister(name: str) -> None:
    """Remove a report type from the registry."""
    _types.pop(name, None)


def find(name: str) -> ReportType:
    """Return the report type with this name.

    Raises:
        UnknownReport: it is not registered; the message suggests the closest name.
    """
    try:
        return _types[name]
    except KeyError:
        raise UnknownReport(f"Unknown report type {name!r}: {_hint(name, _types)}") from None


def for_organizations() -> list[ReportType]:
    """Return the report types for single organizations, in the order of registration."""
    return [kind for kind in _types.values() if kind.for_organizations]


def find_for_organizations(name: str) -> ReportType:
    """Return a report type for single organizations. '' selects the first registered one.

    Raises:
        UnknownReport: it is not registered, or its ``fetch`` takes no ``organization``, so the
            report would include the data of all organizations.
    """
    if not name:
        for kind in for_organizations():
            return kind
        raise UnknownReport(
            "No report type is registered for organizations: "
            "register one whose fetch takes an argument 'organization'"
        )

    kind = find(name)
    if not kind.for_organizations:
        raise UnknownReport(
            f"Report type {name!r} includes the data of all organizations: "
            "its fetch takes no argument 'organization'"
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
