"""Store the files that jobs produce, in the storage named by ``FILES_STORAGE``, and link to them.

The job chooses the exact file name, so repeated runs replace the file instead of adding another
one. On the file system and on S3 a file is written atomically.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from django.core import signing
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.core.files.utils import validate_file_name
from django.urls import NoReverseMatch, reverse

from .. import conf

SALT = "wellos_jobs.contrib.files"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the storage; ``size`` in bytes."""

    name: str
    url: str
    size: int


def storage() -> Storage:
    """Return the storage named by ``FILES_STORAGE``."""
    return storages[conf.current().files_storage]


def store(name: str, content: bytes | IO[bytes]) -> StoredFile:
    """Store ``content``, bytes or an open file, under exactly ``name``, replacing an existing file.

    (``Storage.save`` alone would choose another name.) An open file is copied in chunks.

    Raises:
        SuspiciousFileOperation: the name is empty or leads outside the storage.
    """
    validate_file_name(name, allow_relative_path=True)
    file: File[bytes]
    if isinstance(content, bytes):
        file, size = ContentFile(content), len(content)
    else:
        file, size = File(content, name=name), content.seek(0, io.SEEK_END)
    file.seek(0)

    target = storage()
    if isinstance(target, FileSystemStorage):
        _replace_on_disk(target, name, file)
    else:
        _replace(target, name, file)
    return StoredFile(name, url_of(name), size)


def url_of(name: str) -> str:
    """Return a URL for downloading the file.

    It is a signed link that expires after ``FILE_LINK_AGE`` seconds if ``wellos_jobs.contrib.urls``
    is included, otherwise the storage's own URL, or the file's name if the storage has no URLs.
    """
    token = signing.dumps(name, salt=SALT)
    try:
        return reverse("wellos_jobs_contrib:file", args=[token, name.rpartition("/")[2]])
    except NoReverseMatch:
        return own_url(name) or name


def own_url(name: str) -> str:
    """Return the storage's own URL of a file (S3 signs it), or '' if the storage has no URLs."""
    try:
        return str(storage().url(name))
    except (NotImplementedError, ValueError):  # ValueError: FileSystemStorage without MEDIA_URL
        return ""


def absolute(url: str) -> str:
    """Return a URL for use in an email: ``BASE_URL`` is put before a path on this site."""
    is_path = url.startswith("/") and not url.startswith("//")
    return f"{conf.current().base_url}{url}" if is_path else url


def read_token(token: str) -> str:
    """Return the file name in the token of a signed link.

    Raises:
        signing.SignatureExpired: the link has expired.
        signing.BadSignature: the signature is invalid.
    """
    age = timedelta(seconds=conf.current().file_link_age)
    return str(signing.loads(token, salt=SALT, max_age=age))


def _replace_on_disk(target: FileSystemStorage, name: str, file: File[bytes]) -> None:
    """Write a temporary file, then rename it, so that readers never see half a file.

    The temporary file always has the same name, so the next run removes one left by a killed run.
    """
    folder, _, base = name.rpartition("/")
    draft = f"{folder}/.{base}.draft" if folder else f".{base}.draft"
    target.delete(draft)
    saved = target.save(draft, file)
    Path(target.path(saved)).replace(target.path(name))


def _replace(target: Storage, name: str, file: File[bytes]) -> None:
    if not getattr(target, "file_overwrite", False) and target.exists(name):
        target.delete(name)
    saved = target.save(name, file)
    if saved != name and target.exists(name):
        target.delete(saved)  # another run of the job has stored the file meanwhile
