"""Files that jobs make, in Django's default storage."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO

from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the default storage; ``size`` in bytes."""

    name: str
    url: str
    size: int


def store(name: str, content: bytes | IO[bytes]) -> StoredFile:
    """Write ``content``, bytes or an open file, under exactly ``name``. A file goes piece by piece.

    A job that runs twice replaces its file, where ``save`` alone would add a second beside it. If two runs of one
    job write at the same moment, one of the two files stays.
    """
    if default_storage.exists(name):
        default_storage.delete(name)
    file: File[bytes] = ContentFile(content) if isinstance(content, bytes) else File(content, name=name)
    size = len(content) if isinstance(content, bytes) else content.seek(0, io.SEEK_END)
    saved = default_storage.save(name, file)
    if saved != name and default_storage.exists(name):  # the other run was faster: its file has the name
        default_storage.delete(saved)
        saved = name
    return StoredFile(saved, url_of(saved), size)


def url_of(name: str) -> str:
    """Return where the file can be fetched; its name, if the storage has no URLs."""
    try:
        return default_storage.url(name)
    except (NotImplementedError, ValueError):  # FileSystemStorage without MEDIA_URL raises ValueError
        return name
