"""Long texts: a page reads and shows their beginning and end only; a link leads to the whole."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.db.models.functions import Left, Length, Right
from django.http import HttpResponse
from django.utils.translation import ngettext

SHORT = 12_000
"""Characters of a text that is shown whole."""
HEAD, TAIL = 2_000, 8_000
"""Characters of a longer one: the end of a traceback says what went wrong."""

Row = TypeVar("Row", bound=Model)


def with_cut(rows: QuerySet[Row], column: str) -> QuerySet[Row]:
    """Let rows come with the ends of a text column, and without the column itself."""
    cut: dict[str, Any] = {
        f"{column}_head": Left(column, SHORT),
        f"{column}_tail": Right(column, TAIL),
        f"{column}_size": Length(column),
    }
    found: QuerySet[Row] = rows.defer(column).annotate(**cut)
    return found


def shown(row: Any, column: str) -> str:
    """Return the text of a row that ``with_cut`` has read, cut in the middle if it is long."""
    size = getattr(row, f"{column}_size") or 0
    head = getattr(row, f"{column}_head") or ""
    return joined(head, getattr(row, f"{column}_tail") or "", size)


def is_cut(row: Any, column: str) -> bool:
    """Tell whether ``shown`` leaves something out."""
    return (getattr(row, f"{column}_size") or 0) > SHORT


def cut(text: str, most: int = SHORT) -> str:
    """Return a text that is in memory already, cut in the middle if it has more than ``most`` characters."""
    return text if len(text) <= most else joined(text[:HEAD], text[-TAIL:], len(text))


def joined(head: str, tail: str, size: int) -> str:
    """Return the head of a text of ``size`` characters if that is all, else its ends with a sentence between."""
    if size <= SHORT:
        return head
    left_out = size - HEAD - len(tail)
    told = ngettext(
        "%(n)s character is left out here", "%(n)s characters are left out here", left_out
    )
    return f"{head[:HEAD]}\n\n[… {told % {'n': f'{left_out:,}'}} …]\n\n{tail}"


def as_file(text: str) -> HttpResponse:
    """Return the whole of a text as text/plain."""
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    return response
