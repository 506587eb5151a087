"""Write a table as a UTF-8 CSV file, row by row. Large files go to disk, not into memory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from ..monitoring import csv_export

IN_MEMORY = 1024 * 1024
"""The file is kept in memory up to this size, in bytes."""


@contextlib.contextmanager
def csv_file(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[IO[bytes]]:
    """Yield the file, positioned at its start. It is deleted at the end of the block."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        for line in csv_export.lines(headings, rows):
            file.write(line.encode())
        file.seek(0)
        yield file
