"""CSV import: validation of files, import of chunks, idempotence."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from example_project.accounts.models import User
from example_project.organizations.models import Organization
from example_project.timesheets import csv_import, csv_lines
from example_project.timesheets.csv_import import CHUNK, import_chunk, summarize_import
from example_project.timesheets.models import CsvImport, Project, TimeEntry
from wellos_jobs.models import JobRecord
from wellos_jobs.states import JobState
from wellos_jobs.status import job_status
from wellos_jobs.testing import drain

HEADING = "id,day,project,description,minutes,billable"


def text(*lines: str) -> str:
    return "\r\n".join([HEADING, *lines, ""])


def upload(client: Client, content: str | bytes, name: str = "entries.csv") -> Any:
    raw = content.encode() if isinstance(content, str) else content
    return client.post("/o/acme/time/import", {"file": SimpleUploadedFile(name, raw, "text/csv")})


def run_batch() -> CsvImport:
    """Run the jobs of the latest import and the one that sums it up, and return the import."""
    drain(summarize_import.definition.queue)
    made = CsvImport.objects.first()
    assert made is not None
    return made


def counters(made: CsvImport) -> tuple[int, int, int, int]:
    return made.imported, made.known, made.rejected, made.left_out


def test_valid_lines_are_imported_and_invalid_ones_listed(
    client: Client, ada: User, website: Project
) -> None:
    response = upload(
        client,
        text(
            "1,2026-11-02,Website,Planning,90,yes",
            "2,2026-11-03,website,\"Two\nlines, 'quoted'\",45,NO",
            "3,03.11.2026,Website,Work,10,yes",
            "4,2026-11-03,Moon base,Work,10,yes",
            "5,2026-11-03,Website,Work,-3,perhaps",
            "6,2026-11-03",
            "1,2026-11-02,Website,Planning again,90,yes",
        ),
    )
    made = run_batch()
    assert response.url == f"/o/acme/time/imports/{made.pk}/"
    assert counters(made) == (2, 1, 4, 0)
    first, second = TimeEntry.objects.order_by("external_id")
    assert (first.description, first.minutes, first.billable, first.user) == (
        "Planning",
        90,
        True,
        ada,
    )
    assert (second.project, second.billable) == (website, False)
    assert [(line.number, line.fault) for line in made.rejected_lines.all()] == [
        (5, "day: Write it as 2026-11-24."),
        (6, "project: There is no project 'Moon base'."),
        (
            7,
            "minutes: Ensure this value is greater than or equal to 1. "
            "billable: Select a valid choice. perhaps is not one of the available choices.",
        ),
        (
            8,
            "project: This field is required. description: This field is required. "
            "minutes: This field is required. billable: This field is required.",
        ),
    ]
    page = client.get(response.url).content.decode()
    assert "There is no project &#x27;Moon base&#x27;." in page
    assert "data-refresh" not in page


def test_a_repeated_chunk_or_file_changes_nothing(client: Client, website: Project) -> None:
    content = text("1,2026-11-02,Website,Planning,90,yes", "2,2026-11-02,Website,Planning,90,x")
    upload(client, content)
    first = run_batch()
    assert import_chunk(first.pk, 0) == {"imported": 1, "known": 0, "rejected": 1}
    assert first.rejected_lines.count() == 1
    upload(client, content)
    second = run_batch()
    assert counters(second) == (0, 1, 1, 0)
    assert TimeEntry.objects.count() == 1


def test_ten_thousand_lines(
    client: Client, website: Project, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    sample = client.get("/o/acme/time/samples/big.csv")
    assert sample.headers["Content-Disposition"] == 'attachment; filename="time-entries-10000.csv"'
    with django_assert_max_num_queries(25):
        upload(client, sample.content)
    assert JobRecord.objects.filter(name=import_chunk.name).count() == 10_000 // CHUNK
    made = run_batch()
    assert counters(made) == (9_998, 0, 2, 0)
    with django_assert_max_num_queries(12):
        import_chunk(CsvImport.objects.create(**_copy(made)).pk, CHUNK)


def _copy(made: CsvImport) -> dict[str, Any]:
    return {
        "organization": made.organization,
        "stored_as": made.stored_as,
        "file_name": "x.csv",
        "lines": made.lines,
    }


def test_lines_are_read_once_each_over_the_chunks() -> None:
    lines = [f"{n},a,b,c,d,e" for n in range(7)]
    content = text(*lines).encode()
    found = [
        line["id"]
        for start in (0, 3, 6)
        for _, line in csv_lines.read(io.BytesIO(content), start, 3)
    ]
    assert found == [str(n) for n in range(7)]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "The submitted file is empty."),
        (HEADING.encode(), "has 0 lines"),
        (b"a,b\r\n1,2", "The first line must be id,day,project,description,minutes,billable"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (f'{HEADING}\r\n"1,2'.encode(), "not valid CSV"),
        (f"{HEADING}\r\n{'x' * 200_000},2".encode(), "not valid CSV"),
    ],
)
def test_an_invalid_file_is_refused_at_once(client: Client, content: bytes, fault: str) -> None:
    page = upload(client, content).content.decode()
    assert fault in re.search(r'<ul class="errorlist".*?</ul>', page, re.DOTALL)[0]
    assert not CsvImport.objects.exists()


def test_a_file_of_another_kind_is_refused(client: Client) -> None:
    assert "extension “xlsx” is not allowed" in upload(client, "x", "entries.xlsx").content.decode()


def test_a_file_with_a_byte_order_mark_is_read(client: Client, website: Project) -> None:
    upload(client, b"\xef\xbb\xbf" + text("1,2026-11-02,Website,Planning,90,yes").encode())
    assert counters(run_batch()) == (1, 0, 0, 0)


def test_without_a_batch_there_is_no_import(
    client: Client, website: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(csv_import.Batch, "enqueue_bulk", fail)
    with pytest.raises(RuntimeError):
        upload(client, text("1,2026-11-02,Website,Planning,90,yes"))
    assert not CsvImport.objects.exists()
    assert not JobRecord.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("jobs_captured")
def test_the_remaining_jobs_of_an_import_can_be_canceled(client: Client, website: Project) -> None:
    lines = [f"{n},2026-11-02,Website,Planning,90,yes" for n in range(3 * CHUNK)]
    upload(client, text(*lines))
    made = CsvImport.objects.get()
    import_chunk(made.pk, 0)
    page = client.get(f"/o/acme/time/imports/{made.pk}/progress").content.decode()
    assert f"{CHUNK} of {3 * CHUNK} lines" in page
    assert f'data-refresh="/o/acme/time/imports/{made.pk}/progress"' in page
    page = client.post(f"/o/acme/time/imports/{made.pk}/cancel", follow=True).content.decode()
    assert "3 jobs were canceled." in page
    chunks = JobRecord.objects.filter(name=import_chunk.name)
    assert {job_status(chunk)["state"] for chunk in chunks} == {JobState.CANCELED}
    assert summarize_import(made.pk) == {
        "imported": CHUNK,
        "known": 0,
        "rejected": 0,
        "left_out": 2 * CHUNK,
    }
    assert "Not completed" in client.get(f"/o/acme/time/imports/{made.pk}/").content.decode()


@pytest.mark.parametrize(("path", "queries"), [("", 8), ("progress", 7)])
def test_the_page_of_a_running_import(
    client: Client,
    website: Project,
    django_assert_num_queries: DjangoAssertNumQueries,
    path: str,
    queries: int,
) -> None:
    upload(client, text(*(f"{n},2026-11-02,Website,Planning,90,yes" for n in range(2 * CHUNK))))
    made = CsvImport.objects.get()
    with django_assert_num_queries(queries):
        assert client.get(f"/o/acme/time/imports/{made.pk}/{path}").status_code == 200
    assert JobRecord.objects.filter(state=JobState.BLOCKED).count() == 1  # the one that sums up


def test_projects_of_another_organization_are_not_found(
    client: Client, fjord: Organization
) -> None:
    Project.objects.create(organization=fjord, name="Secret", customer_name="X", hourly_rate=1)
    upload(client, text("1,2026-11-02,Secret,Planning,90,yes"))
    assert counters(run_batch()) == (0, 0, 1, 0)
