"""CSV text (RFC 4180), line by line, safe against formula injection in spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def lines(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines of a table, with line ends.

    Text that a spreadsheet would evaluate is prefixed with an apostrophe.
    """
    writer = csv.writer(_Echo())
    yield writer.writerow(map(_cell, headings))
    for row in rows:
        yield writer.writerow(map(_cell, row))


class _Echo:
    """A file that stores nothing: ``write`` returns the text."""

    def write(self, text: str) -> str:
        return text


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_STARTS_FORMULA) else value
