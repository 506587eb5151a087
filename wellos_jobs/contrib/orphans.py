"""Cleanup of files that nothing refers to any more. The project says where they lie and which ones are needed.

    orphans.register("reports/", orphans.of_jobs) orphans.register("photos/", lambda names:
    Photo.objects.filter(file__in=names).values_list("file", flat=True))

Nothing outside a registered prefix is looked at, nothing younger than a day is deleted, links in
the file system are not followed, and ``cleanup_orphaned_files.enqueue(dry_run=True)`` only says
what would go. It runs daily at 03:00 once something is registered.
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
from .cleanup import LONGEST, QUEUE, schedule
from .files import storage

logger = logging.getLogger("wellos_jobs.contrib")

NIGHTLY = Cron("0 3 * * *")
LEAST_AGE = timedelta(days=1)
"""A file younger than this may belong to something that is about to be stored."""
CHUNK = 500
"""How many files are asked about at once."""

InUse = Callable[[Sequence[str]], Iterable[str]]

_OF_A_JOB = re.compile(r"(?:.*/)?\.?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.\w+(?:\.draft)?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where files lie, and who knows which of them are needed."""

    prefix: str
    in_use: InUse


_places: dict[str, Place] = {}


def register(prefix: str, in_use: InUse) -> None:
    """Let ``cleanup_orphaned_files`` look below ``prefix``, a folder of the storage such as ``"reports/"``.

    ``in_use(names)`` returns those of the names that are still needed; the others are deleted.

    Raises:
        ValueError: the prefix is no folder below the storage's root, or was registered before.
    """
    *folders, end = prefix.split("/")
    if end or not folders or {"", ".", ".."} & set(folders):
        raise ValueError(
            f"prefix is {prefix!r}: give a folder below the storage's root, with a slash at its end"
        )
    if prefix in _places:
        raise ValueError(f"prefix is {prefix!r}: somebody else has registered it")
    _places[prefix] = Place(prefix, in_use)
    schedule(cleanup_orphaned_files, NIGHTLY)


def of_jobs(names: Sequence[str]) -> list[str]:
    """Return the files of jobs that still have a row: those named ``<job id>.<ending>``, as reports are.

    What has another name is none of ours and counts as needed.
    """
    ids = {name: found[1] for name in names if (found := _OF_A_JOB.fullmatch(name)) is not None}
    known: set[str] = set()
    for alias in migrated_databases():
        rows = JobRecord.objects.using(alias).filter(pk__in=set(ids.values()))
        known.update(map(str, rows.values_list("pk", flat=True)))
    return [name for name in names if name not in ids or ids[name] in known]


@job("cleanup-orphaned-files", queue=QUEUE, timeout=LONGEST, discard_on=(ConfigurationError,))
def cleanup_orphaned_files(dry_run: bool = False) -> int:
    """Delete the files that nothing needs; return how many. With ``dry_run`` none is deleted: log and result say what
    would be."""
    if not _places:
        raise ConfigurationError(
            "No folder to clean up is known: call wellos_jobs.contrib.orphans.register in an app's jobs.py"
        )
    seen, deleted = 0, 0
    for number, place in enumerate(_places.values()):
        files = _walk(storage(), place.prefix)
        while names := list(islice(files, CHUNK)):
            seen += len(names)
            deleted += _sweep(storage(), place, names, dry_run=dry_run)
            what = "would be deleted" if dry_run else "deleted"
            report_progress(
                100 * number / len(_places), f"{place.prefix}: {seen} files seen, {deleted} {what}"
            )
    return deleted


def _sweep(files: Storage, place: Place, names: Sequence[str], *, dry_run: bool) -> int:
    old = [name for name in names if _is_old(files, name)]
    needed = set(place.in_use(old)) if old else set()
    count = 0
    for name in old:
        if name in needed or not _is_old(
            files, name
        ):  # a run that is repeated may have written it anew meanwhile
            continue
        count += 1
        logger.info("orphaned file %s%s", name, " (dry run: it stays)" if dry_run else "")
        if not dry_run:
            files.delete(name)
    return count


def _walk(files: Storage, prefix: str) -> Iterator[str]:
    try:
        folders, names = files.listdir(prefix)
    except FileNotFoundError:  # nothing has been stored there yet
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
        return files.get_modified_time(name) < timezone.now() - LEAST_AGE
    except FileNotFoundError:  # gone meanwhile
        return False
