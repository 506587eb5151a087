"""Import a CSV file of time entries as a batch: a job for each chunk of lines, then a summary."""

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
"""Lines imported by one job."""


@transaction.atomic
def start_import(
    organization: Organization, user: User, file: UploadedFile, lines: int
) -> CsvImport:
    """Store an uploaded file and enqueue the batch that imports it, in one transaction.

    The jobs' data is the import's key and the first line of the chunk; the lines stay in the
    storage.
    """
    stored = store(f"imports/{uuid.uuid4()}.csv", file)
    csv_import = CsvImport.objects.create(
        organization=organization,
        uploaded_by=user,
        file_name=file.name,
        stored_as=stored.name,
        lines=lines,
    )

    summary = summarize_import.with_data(import_id=csv_import.pk)
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
    """Import a chunk of lines; return the numbers of imported, known and rejected lines.

    Entries and result are stored in one transaction. So an interrupted run has stored nothing, and
    a repeated run finds the result.
    """
    csv_import = CsvImport.objects.filter(pk=import_id).first()
    if csv_import is None:
        raise Discard(f"There is no import {import_id}")
    with transaction.atomic():
        chunk = csv_import.chunks.filter(start=start).first() or _store(csv_import, start)
    return {"imported": chunk.imported, "known": chunk.known, "rejected": chunk.rejected}


@job("summarize-csv-import", queue=QUEUE)
def summarize_import(import_id: int) -> dict[str, int]:
    """Store the totals of an import at the end of its batch, and return them."""
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
            except csv_lines.InvalidLine as error:
                rejected.append(
                    RejectedLine(csv_import=csv_import, number=number, fault=str(error)[:300])
                )
            else:
                entries.setdefault((entry.project, entry.external_id or ""), entry)

    new = _unknown(list(entries.values()))
    # Raises IntegrityError if another chunk stores one of them meanwhile; the job is then retried.
    TimeEntry.objects.bulk_create(new)
    RejectedLine.objects.bulk_create(rejected)
    return ImportedChunk.objects.create(
        csv_import=csv_import,
        start=start,
        imported=len(new),
        known=lines - len(new) - len(rejected),
        rejected=len(rejected),
    )


def _unknown(entries: list[TimeEntry]) -> list[TimeEntry]:
    """Return the entries that are not stored yet."""
    keys = [entry.external_id for entry in entries]
    stored = TimeEntry.objects.filter(
        project__in={entry.project for entry in entries}, external_id__in=keys
    )
    known = set(stored.values_list("project_id", "external_id"))
    return [entry for entry in entries if (entry.project_id, entry.external_id) not in known]


def _in_use(names: Sequence[str]) -> Iterable[str]:
    return CsvImport.objects.filter(stored_as__in=names).values_list("stored_as", flat=True)


# Deletes files whose upload was rolled back or whose organization was deleted.
orphans.register("imports/", _in_use)
