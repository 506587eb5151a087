"""CSV text (RFC 4180), line by line, safe against formula injection in spreadsheets."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_FORMULA = re.compile(
    r"(^|[;\t\r\n])([^\S\t\r\n]*[\ufeff\u200b]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
"""Where a spreadsheet may find the first character of a formula.

It may trim blanks, and take a semicolon or a tab, too, as the end of a cell, depending on its
language. Japanese versions read the wide forms like the others.
"""
_FIRST = ("\t", "\r", "\n")
"""Characters that some spreadsheets skip at the start of a cell."""


def lines(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines of a table, with line ends.

    An apostrophe is put before everything in a text that a spreadsheet would evaluate.
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
    if not isinstance(value, str):
        return value
    text = _FORMULA.sub(r"\1\2'", value)
    return f"'{text}" if text.startswith(_FIRST) else text
