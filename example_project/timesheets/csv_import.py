"""A CSV file of time entries is imported as a batch: chunks of lines as jobs, and at the end one
that sums up."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone

from example_project.accounts.models import User
from example_project.organizations.models import Organization
from wellos_jobs import Batch, Discard, job
from wellos_jobs.contrib import orphans
from wellos_jobs.contrib.files import storage, store

from . import csv_lines
from .models import CsvImport, ImportedChunk, Project, RejectedLine, TimeEntry

QUEUE = "batch"
CHUNK = 250
"""Lines that one job imports."""


@transaction.atomic
def start_import(
    organization: Organization, user: User, file: UploadedFile, lines: int
) -> CsvImport:
    """Store an uploaded file and enqueue the batch that imports it: all of it or, if anything
    fails, nothing.

    The jobs carry the import's key and a range of lines; the lines stay in the storage.
    """
    stored = store(f"imports/{uuid.uuid4()}.csv", file)
    csv_import = CsvImport.objects.create(
        organization=organization,
        uploaded_by=user,
        file_name=file.name,
        stored_as=stored.name,
        lines=lines,
    )
    summary = summarise_import.with_data(import_id=csv_import.pk)
    with Batch(
        name=f"import of {file.name}", on_complete=summary, organization=organization.pk
    ) as batch:
        rows = [{"import_id": csv_import.pk, "start": start} for start in range(0, lines, CHUNK)]
        batch.enqueue_bulk(import_chunk, rows)
    csv_import.batch_id = batch.id
    csv_import.save(update_fields=["batch_id"])
    return csv_import


@job("import-csv-chunk", queue=QUEUE, max_attempts=3, timeout=120)
def import_chunk(import_id: int, start: int) -> dict[str, int]:
    """Import some lines; return how many were imported, known before, and rejected.

    Entries and outcome are stored in one transaction: a run that was cut short has stored nothing,
    and one that is repeated after its end finds the outcome.
    """
    csv_import = CsvImport.objects.filter(pk=import_id).first()
    if csv_import is None:
        raise Discard(f"There is no import {import_id}")
    with transaction.atomic():
        chunk = csv_import.chunks.filter(start=start).first() or _store(csv_import, start)
    return {"imported": chunk.imported, "known": chunk.known, "rejected": chunk.rejected}


@job("summarise-csv-import", queue=QUEUE)
def summarise_import(import_id: int) -> dict[str, int]:
    """Write what became of a file, once nothing of its batch is open any more; return it."""
    with transaction.atomic():
        csv_import = CsvImport.objects.select_for_update().get(pk=import_id)
        found = csv_import.so_far()
        for counter, number in found.items():
            setattr(csv_import, counter, number)
        csv_import.finished_at = csv_import.finished_at or timezone.now()
        csv_import.save(update_fields=[*found, "finished_at"])
    return {**found, "left_out": csv_import.left_out}


def _store(csv_import: CsvImport, start: int) -> ImportedChunk:
    projects = {
        project.name.casefold(): project for project in csv_import.organization.projects.all()
    }
    entries: dict[tuple[Project, str], TimeEntry] = {}
    rejected: list[RejectedLine] = []
    lines = 0
    with storage().open(csv_import.stored_as) as file:
        for number, line in csv_lines.read(file, start, CHUNK):
            lines += 1
            try:
                entry = csv_lines.entry(line, projects, csv_import.uploaded_by_id)
            except csv_lines.FaultyLine as error:
                rejected.append(
                    RejectedLine(csv_import=csv_import, number=number, fault=str(error)[:300])
                )
            else:
                entries.setdefault((entry.project, entry.external_id or ""), entry)
    new = _unknown(list(entries.values()))
    TimeEntry.objects.bulk_create(
        new
    )  # fails if another chunk has just stored one of them: then this one runs again
    RejectedLine.objects.bulk_create(rejected)
    return ImportedChunk.objects.create(
        csv_import=csv_import,
        start=start,
        imported=len(new),
        known=lines - len(new) - len(rejected),
        rejected=len(rejected),
    )


def _unknown(entries: list[TimeEntry]) -> list[TimeEntry]:
    """Return the entries that are not here yet."""
    keys = [entry.external_id for entry in entries]
    stored = TimeEntry.objects.filter(
        project__in={entry.project for entry in entries}, external_id__in=keys
    )
    here = set(stored.values_list("project_id", "external_id"))
    return [entry for entry in entries if (entry.project_id, entry.external_id) not in here]


def _in_use(names: Sequence[str]) -> Iterable[str]:
    return CsvImport.objects.filter(stored_as__in=names).values_list("stored_as", flat=True)


orphans.register(
    "imports/", _in_use
)  # a file whose upload was rolled back, or whose organization has gone
