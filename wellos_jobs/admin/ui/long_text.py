"""Long texts are read and shown shortened in the middle; a link leads to the full text."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.db.models.functions import Left, Length, Right
from django.http import HttpResponse
from django.utils.translation import ngettext

SHORT = 12_000
"""Texts up to this many characters are shown in full."""
HEAD, TAIL = 2_000, 8_000
"""Characters shown of a longer text: the end of a traceback matters most."""

Row = TypeVar("Row", bound=Model)


def with_cut(rows: QuerySet[Row], column: str) -> QuerySet[Row]:
    """Annotate rows with both ends of a text column, and defer the column."""
    cut: dict[str, Any] = {
        f"{column}_head": Left(column, SHORT),
        f"{column}_tail": Right(column, TAIL),
        f"{column}_size": Length(column),
    }
    found: QuerySet[Row] = rows.defer(column).annotate(**cut)
    return found


def shown(row: Any, column: str) -> str:
    """Return the text of a row read by ``with_cut``, shortened in the middle if it is long."""
    size = getattr(row, f"{column}_size") or 0
    head = getattr(row, f"{column}_head") or ""
    return joined(head, getattr(row, f"{column}_tail") or "", size)


def is_cut(row: Any, column: str) -> bool:
    """Return whether ``shown`` shortens the text."""
    return (getattr(row, f"{column}_size") or 0) > SHORT


def cut(text: str, most: int = SHORT) -> str:
    """Shorten a text in the middle if it has more than ``most`` characters."""
    return text if len(text) <= most else joined(text[:HEAD], text[-TAIL:], len(text))


def joined(head: str, tail: str, size: int) -> str:
    """Join both ends of a text of ``size`` characters, with a note of how much is missing."""
    if size <= SHORT:
        return head
    left_out = size - HEAD - len(tail)
    note = ngettext("%(n)s character omitted", "%(n)s characters omitted", left_out)
    return f"{head[:HEAD]}\n\n[… {note % {'n': f'{left_out:,}'}} …]\n\n{tail}"


def as_file(text: str) -> HttpResponse:
    """Return the full text as text/plain."""
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    return response
