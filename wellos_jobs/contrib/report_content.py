"""The values passed between the steps of a report: its date range and its content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_date


@dataclass(frozen=True, slots=True)
class DateRange:
    """The days that a report covers, from ``start`` to ``end`` inclusive."""

    start: date
    end: date

    def __str__(self) -> str:
        return f"{self.start:%d %b %Y} to {self.end:%d %b %Y}"

    @classmethod
    def of(cls, value: Any) -> DateRange:
        """Read ``{"start": ..., "end": ...}`` or a pair of dates; a date may be an ISO string.

        Raises:
            ValidationError: the value has another form, or the range ends before it starts.
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
    """A report's table, and the key figures shown above it. ``numeric`` columns are right-aligned.

    ``rows`` may be an iterator. It is read once: row by row for a CSV file, all at once for a PDF.
    """

    headings: Sequence[str]
    rows: Iterable[Sequence[Any]]
    figures: Mapping[str, Any] = field(default_factory=dict)
    numeric: frozenset[int] | None = frozenset()
    """None: the columns with a number in every row."""

    def complete(self) -> Content:
        """Return a copy with all rows read, for a PDF. The default figure is the number of rows."""
        rows = list(self.rows)
        numeric = self.numeric if self.numeric is not None else _numeric(rows, len(self.headings))
        return Content(self.headings, rows, self.figures or {"Rows": len(rows)}, numeric)


def _numeric(rows: Sequence[Sequence[Any]], columns: int) -> frozenset[int]:
    return frozenset(
        column for column in range(columns) if rows and all(_is_number(row[column]) for row in rows)
    )


def _is_number(value: Any) -> bool:
    return hasattr(value, "__round__") and not isinstance(value, bool)


def _day(value: Any) -> date:
    day = parse_date(value) if isinstance(value, str) else value
    if isinstance(day, datetime):
        return day.date()
    if not isinstance(day, date):
        raise ValidationError(f"date_range: {value!r} is not a date; write it as 2026-01-31")
    return day
