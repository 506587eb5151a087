"""CSV as text (RFC 4180), line by line, in which no cell is a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def lines(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield a table line by line, each with its end. Text that a spreadsheet would run gets an apostrophe before it."""
    writer = csv.writer(_Returned())
    yield writer.writerow(map(_cell, headings))
    for row in rows:
        yield writer.writerow(map(_cell, row))


class _Returned:
    """A file that keeps nothing: what is written comes back."""

    def write(self, text: str) -> str:
        return text


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_STARTS_FORMULA) else value
