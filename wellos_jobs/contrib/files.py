"""Files that jobs make, in the storage that ``FILES_STORAGE`` names, and links to them.

A file has the name that its job chose, so a job that runs twice, or is killed between the upload
and its end, leaves one file. It appears whole or not at all, where the storage can do so: the file
system can, and so can S3.
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
    """Return the storage of the files that jobs make."""
    return storages[conf.current().files_storage]


def store(name: str, content: bytes | IO[bytes]) -> StoredFile:
    """Write ``content``, bytes or an open file, under exactly ``name``. A file goes piece by piece.

    What is there under this name is replaced, where ``save`` alone would add a second file beside
    it.

    Raises:
        SuspiciousFileOperation: the name is empty, or leads out of the storage.
    """
    validate_file_name(name, allow_relative_path=True)
    target = storage()
    file: File[bytes] = (
        ContentFile(content) if isinstance(content, bytes) else File(content, name=name)
    )
    size = len(content) if isinstance(content, bytes) else content.seek(0, io.SEEK_END)
    file.seek(0)
    if isinstance(target, FileSystemStorage):
        _replace_on_disk(target, name, file)
    else:
        _replace(target, name, file)
    return StoredFile(name, url_of(name), size)


def url_of(name: str) -> str:
    """Return where the file can be fetched: by a signed link, good for ``FILE_LINK_AGE`` seconds, if
    ``wellos_jobs.contrib.urls`` is included, else at the storage's own URL. A storage without URLs
    gives the name.
    """
    token = signing.dumps(name, salt=SALT)
    try:
        return reverse("wellos_jobs_contrib:file", args=[token, name.rpartition("/")[2]])
    except NoReverseMatch:
        return own_url(name) or name


def own_url(name: str) -> str:
    """Return the storage's URL of a file, which S3 signs and lets expire; '' if it has none."""
    try:
        return str(storage().url(name))
    except (
        NotImplementedError,
        ValueError,
    ):  # FileSystemStorage without MEDIA_URL raises ValueError
        return ""


def absolute(url: str) -> str:
    """Return a URL as it is written in a mail: one of this site begins with ``BASE_URL``."""
    return (
        f"{conf.current().base_url}{url}"
        if url.startswith("/") and not url.startswith("//")
        else url
    )


def read_token(token: str) -> str:
    """Return the name of the file that a signed link is for.

    Raises:
        signing.SignatureExpired: the link is too old.
        signing.BadSignature: nobody here made it.
    """
    age = timedelta(seconds=conf.current().file_link_age)
    return str(signing.loads(token, salt=SALT, max_age=age))


def _replace_on_disk(target: FileSystemStorage, name: str, file: File[bytes]) -> None:
    """Write a draft and put it in the place of the file: nobody ever reads half of one. The draft has one name, too, so
    that a run that is killed leaves no more than its next one cleans up."""
    folder, _, base = name.rpartition("/")
    draft = f"{folder}/.{base}.draft" if folder else f".{base}.draft"
    target.delete(draft)
    saved = target.save(draft, file)
    Path(target.path(saved)).replace(target.path(name))


def _replace(target: Storage, name: str, file: File[bytes]) -> None:
    if not getattr(target, "file_overwrite", False) and target.exists(name):
        target.delete(name)
    saved = target.save(name, file)
    if saved != name and target.exists(
        name
    ):  # another run of the job was faster: its file has the name
        target.delete(saved)
