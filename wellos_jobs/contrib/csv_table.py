"""A table as a CSV file in UTF-8, written row by row: a long one goes to disk, never whole into memory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from ..monitoring import csv_export

IN_MEMORY = 1024 * 1024
"""Bytes up to which the file is kept in memory."""


@contextlib.contextmanager
def written(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[IO[bytes]]:
    """Yield the file, at its start; it is gone after the block."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        for line in csv_export.lines(headings, rows):
            file.write(line.encode())
        file.seek(0)
        yield file
