"""A table as a CSV file (RFC 4180, UTF-8), written row by row: a long one goes to disk, never whole into memory."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

IN_MEMORY = 1024 * 1024
"""Bytes up to which the file is kept in memory."""

_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextlib.contextmanager
def written(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[IO[bytes]]:
    """Yield the file, at its start; it is gone after the block."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(map(cell, headings))
        writer.writerows(map(cell, row) for row in rows)
        text.detach()  # flushes, and leaves the file open
        file.seek(0)
        yield file


def cell(value: Any) -> Any:
    """Return a value as it is written. Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_STARTS_FORMULA) else value
