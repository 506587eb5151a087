"""Delete orphaned files: files in the storage that nothing refers to any more.

The project registers folders, each with a function that returns the files still in use:

    orphans.register("reports/", orphans.of_jobs)
    orphans.register(
        "photos/",
        lambda names: Photo.objects.filter(file__in=names).values_list("file", flat=True),
    )

Files outside the registered folders are ignored, files younger than a day are kept, and symbolic
links are not followed. ``cleanup_orphaned_files.enqueue(dry_run=True)`` deletes nothing and logs
what it would delete. The job runs daily at 03:00 once a folder is registered.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

from django.core.files.storage import FileSystemStorage, Storage
from django.utils import timezone

from .. import job, report_progress
from ..cron import Cron
from ..database import migrated_databases
from ..errors import ConfigurationError
from ..models import JobRecord
from .cleanup import QUEUE, TIMEOUT, schedule
from .files import storage

logger = logging.getLogger("wellos_jobs.contrib")

NIGHTLY = Cron("0 3 * * *")
MIN_AGE = timedelta(days=1)
"""A younger file may belong to a row that is not committed yet."""
CHUNK = 500
"""Number of names in one call of ``in_use``."""

InUse = Callable[[Sequence[str]], Iterable[str]]

_OF_A_JOB = re.compile(r"(?:.*/)?\.?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.\w+(?:\.draft)?")


@dataclass(frozen=True, slots=True)
class Folder:
    """A registered folder, and the function that returns which of its files are in use."""

    prefix: str
    in_use: InUse


_folders: dict[str, Folder] = {}


def register(prefix: str, in_use: InUse) -> None:
    """Register a folder of the storage, such as ``"reports/"``, for ``cleanup_orphaned_files``.

    ``in_use(names)`` returns the names of files to keep; the others are deleted.

    Raises:
        ValueError: the prefix is not a folder below the storage's root, or is already registered.
    """
    *parts, end = prefix.split("/")
    if end or not parts or {"", ".", ".."} & set(parts):
        raise ValueError(
            f"Invalid prefix {prefix!r}: give a folder below the storage's root, ending in a slash"
        )
    if prefix in _folders:
        raise ValueError(f"The prefix {prefix!r} is already registered")

    _folders[prefix] = Folder(prefix, in_use)
    schedule(cleanup_orphaned_files, NIGHTLY)


def of_jobs(names: Sequence[str]) -> list[str]:
    """Return the files named ``<job id>.<suffix>``, as reports are, whose job still has a row.

    Files with other names count as in use.
    """
    ids = {name: found[1] for name in names if (found := _OF_A_JOB.fullmatch(name)) is not None}

    existing: set[str] = set()
    for alias in migrated_databases():
        rows = JobRecord.objects.using(alias).filter(pk__in=set(ids.values()))
        existing.update(map(str, rows.values_list("pk", flat=True)))

    return [name for name in names if name not in ids or ids[name] in existing]


@job("cleanup-orphaned-files", queue=QUEUE, timeout=TIMEOUT, discard_on=(ConfigurationError,))
def cleanup_orphaned_files(dry_run: bool = False) -> int:
    """Delete the files that are not in use and return their number.

    With ``dry_run`` they are counted and logged, but not deleted.
    """
    if not _folders:
        raise ConfigurationError(
            "There are no registered folders to clean up: "
            "call wellos_jobs.contrib.orphans.register in an app's jobs.py"
        )

    seen, deleted = 0, 0
    for number, folder in enumerate(_folders.values()):
        files = _walk(storage(), folder.prefix)
        while names := list(islice(files, CHUNK)):
            seen += len(names)
            deleted += _sweep(storage(), folder, names, dry_run=dry_run)
            what = "would be deleted" if dry_run else "deleted"
            report_progress(
                100 * number / len(_folders),
                f"{folder.prefix}: {seen} files seen, {deleted} {what}",
            )
    return deleted


def _sweep(files: Storage, folder: Folder, names: Sequence[str], *, dry_run: bool) -> int:
    old = [name for name in names if _is_old(files, name)]
    in_use = set(folder.in_use(old)) if old else set()

    count = 0
    for name in old:
        # Check the age again: a repeated run may have rewritten the file meanwhile.
        if name in in_use or not _is_old(files, name):
            continue
        count += 1
        logger.info("orphaned file %s%s", name, " (dry run: not deleted)" if dry_run else "")
        if not dry_run:
            files.delete(name)
    return count


def _walk(files: Storage, prefix: str) -> Iterator[str]:
    try:
        folders, names = files.listdir(prefix)
    except FileNotFoundError:  # nothing has been stored in this folder yet
        return
    for name in names:
        if name and not _is_link(files, f"{prefix}{name}"):
            yield f"{prefix}{name}"
    for folder in folders:
        if folder and not _is_link(files, f"{prefix}{folder}"):
            yield from _walk(files, f"{prefix}{folder}/")


def _is_link(files: Storage, name: str) -> bool:
    return isinstance(files, FileSystemStorage) and Path(files.path(name)).is_symlink()


def _is_old(files: Storage, name: str) -> bool:
    try:
        return files.get_modified_time(name) < timezone.now() - MIN_AGE
    except FileNotFoundError:  # deleted meanwhile
        return False
