"""Splitting many things into chunks for one statement each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

CHUNK = 500
"""Ids in one statement, because databases limit its parameters."""

T = TypeVar("T")


def in_chunks(things: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Split into lists of at most ``size``, in order; a lazy iterable is read chunk by chunk."""
    rest = iter(things)
    while chunk := list(islice(rest, size)):
        yield chunk
