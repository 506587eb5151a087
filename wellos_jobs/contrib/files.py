"""Files that jobs make, in Django's default storage."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the default storage; ``size`` in bytes."""

    name: str
    url: str
    size: int


def store(name: str, content: bytes) -> StoredFile:
    """Write ``content`` under exactly ``name``.

    A job that runs twice replaces its file, where ``save`` alone would add a second beside it. If two runs of one
    job write at the same moment, one of the two files stays.
    """
    if default_storage.exists(name):
        default_storage.delete(name)
    saved = default_storage.save(name, ContentFile(content))
    if saved != name and default_storage.exists(name):  # the other run was faster: its file has the name
        default_storage.delete(saved)
        saved = name
    return StoredFile(saved, url_of(saved), len(content))


def url_of(name: str) -> str:
    """Return where the file can be fetched; its name, if the storage has no URLs."""
    try:
        return default_storage.url(name)
    except (NotImplementedError, ValueError):  # FileSystemStorage without MEDIA_URL raises ValueError
        return name
