"""``contrib.files``: atomic storage on disk and in S3, and signed links that expire."""

from __future__ import annotations

import contextlib
import io
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core import signing
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import default_storage
from django.test import Client
from django.test.utils import override_settings
from django.urls import include, path

from wellos_jobs import Discard, JobState
from wellos_jobs.contrib import emails, files, reports
from wellos_jobs.models import JobAttempt

from ..support import s3
from ..support.processes import Fleet
from ..urls import urlpatterns as without_links

urlpatterns = [*without_links, path("files/", include("wellos_jobs.contrib.urls"))]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, settings: Any) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"


@pytest.fixture
def s3_server(settings: Any) -> Iterator[s3.S3Server]:
    with s3.S3Server() as server:
        settings.STORAGES = {**settings.STORAGES, "default": s3.storage(server.url)}
        yield server


def listed(folder: str = "reports") -> list[str]:
    return sorted(default_storage.listdir(folder)[1])


def read(name: str) -> bytes:
    with default_storage.open(name) as file:
        return file.read()


# --- on disk --------------------------------------------------------------------------------------


def test_a_file_has_exactly_its_name_and_is_replaced() -> None:
    assert files.store("reports/a.pdf", b"one") == files.StoredFile(
        "reports/a.pdf", "/media/reports/a.pdf", 3
    )
    assert files.store("reports/a.pdf", io.BytesIO(b"three")).size == 5
    assert read("reports/a.pdf") == b"three"
    assert listed() == ["a.pdf"]


class Slow(io.BytesIO):
    """Reads the stored file while it is being replaced."""

    def read(self, size: int | None = -1, /) -> bytes:
        self.seen = read("a.txt")
        return super().read(size)


def test_readers_never_see_half_a_file() -> None:
    files.store("a.txt", b"the old one")
    slow = Slow(b"the new one")
    files.store("a.txt", slow)
    assert (slow.seen, read("a.txt")) == (b"the old one", b"the new one")


class Breaks(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError("the disk is gone")


def test_an_interrupted_run_keeps_the_old_file_and_the_next_run_cleans_up() -> None:
    files.store("reports/a.pdf", b"old")
    with pytest.raises(OSError, match="the disk is gone"):
        files.store("reports/a.pdf", Breaks(b"new"))
    assert read("reports/a.pdf") == b"old"
    (default_storage.path("reports") / Path(".a.pdf.draft")).write_bytes(
        b"hal"
    )  # as a kill leaves it
    files.store("reports/a.pdf", b"new")
    assert (listed(), read("reports/a.pdf")) == (["a.pdf"], b"new")


class Meanwhile(io.BytesIO):
    """Lets another run of the same job store the file meanwhile."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() == 0:
            files.store("reports/a.pdf", b"the other")
        return super().read(size)


def test_two_concurrent_runs_leave_one_file() -> None:
    with pytest.raises(FileNotFoundError):  # this run has lost its claim, or else it is tried again
        files.store("reports/a.pdf", Meanwhile(b"mine"))
    assert (listed(), read("reports/a.pdf")) == (["a.pdf"], b"the other")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", ""])
def test_a_name_that_leads_outside_is_refused(name: str) -> None:
    with pytest.raises(SuspiciousFileOperation):
        files.store(name, b"x")


def test_a_custom_storage(settings: Any) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }
    for content in (b"one", b"three"):
        files.store("reports/a.pdf", content)
    assert (listed(), read("reports/a.pdf")) == (["a.pdf"], b"three")


def test_the_storage_is_chosen_by_its_alias(tmp_path: Path, settings: Any) -> None:
    archive = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": tmp_path / "archive"},
    }
    settings.STORAGES = {**settings.STORAGES, "archive": archive}
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "FILES_STORAGE": "archive"}
    files.store("a.txt", b"x")
    assert (tmp_path / "archive" / "a.txt").read_bytes() == b"x"


def test_a_storage_without_urls_gives_the_name(tmp_path: Path) -> None:
    options = {"location": tmp_path, "base_url": None}
    storages = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    }
    with override_settings(STORAGES=storages, MEDIA_URL=None):
        assert files.store("a.txt", b"x").url == "a.txt"


@pytest.mark.parametrize(
    ("base", "url", "shown"),
    [
        ("https://wellos.example", "/media/a.pdf", "https://wellos.example/media/a.pdf"),
        ("", "/media/a.pdf", "/media/a.pdf"),
        ("https://wellos.example", "https://s3.example/a.pdf?X=1", "https://s3.example/a.pdf?X=1"),
        ("https://wellos.example", "//cdn.example/a.pdf", "//cdn.example/a.pdf"),
        ("https://wellos.example", "a.pdf", "a.pdf"),
    ],
)
def test_a_link_in_an_email_starts_with_the_base_url(
    settings: Any, base: str, url: str, shown: str
) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BASE_URL": base}
    assert files.absolute(url) == shown


# --- signed links ---------------------------------------------------------------------------------


@pytest.fixture
def links(settings: Any) -> Client:
    settings.ROOT_URLCONF = __name__
    return Client()


def test_a_signed_link_gives_the_file_as_a_download(links: Client, db: None) -> None:
    url = files.store("reports/Ada's <b>.html", b"<script>alert(1)</script>").url
    assert url.startswith("/files/")
    response = links.get(url)
    assert (response.status_code, b"".join(response)) == (200, b"<script>alert(1)</script>")
    assert response["Content-Disposition"].startswith("attachment;")
    assert response["Content-Type"] == "text/html"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert (response["Cache-Control"], response["Referrer-Policy"]) == (
        "private, no-store",
        "no-referrer",
    )
    with contextlib.closing(links.head(url)) as head:
        assert head["Content-Length"] == "25"
    assert links.post(url).status_code == 405


def test_a_signed_link_expires(links: Client, settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "FILE_LINK_AGE": 60}
    url = files.store("a.txt", b"x").url
    assert b"".join(links.get(url)) == b"x"
    with pytest.MonkeyPatch.context() as patch:
        now = signing.time.time()
        patch.setattr(signing.time, "time", lambda: now + 61)
        response = links.get(url)
    assert (response.status_code, response.content) == (410, b"This link has expired.")


def test_the_file_name_in_a_link_is_ignored_and_its_token_cannot_be_changed(
    links: Client,
) -> None:
    url = files.store("a.txt", b"x").url
    files.store("b.txt", b"secret")
    _, _, token, _ = url.split("/")
    assert b"".join(links.get(f"/files/{token}/b.txt")) == b"x"
    for wrong in (
        token[:-1],
        token[1:],
        "x",
        signing.dumps("b.txt"),
        signing.dumps("b.txt", salt="other"),
    ):
        assert links.get(f"/files/{wrong}/b.txt").status_code == 404


@pytest.mark.parametrize("name", ["gone.txt", "../outside.txt", "/etc/passwd", "reports", ""])
def test_a_signed_name_outside_the_storage_is_not_served(
    links: Client, tmp_path: Path, name: str
) -> None:
    files.store("reports/a.pdf", b"x")
    (tmp_path / "outside.txt").write_text("secret")
    token = signing.dumps(name, salt=files.SALT)
    assert links.get(f"/files/{token}/x").status_code == 404


# --- S3 -------------------------------------------------------------------------------------------


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read()


def test_s3_files_are_replaced_and_their_links_signed_and_limited(s3_server: s3.S3Server) -> None:
    files.store("reports/a.pdf", b"one")
    stored = files.store("reports/a.pdf", io.BytesIO(b"three"))
    assert (stored.name, stored.size) == ("reports/a.pdf", 5)
    assert s3_server.names() == ["reports/a.pdf"]
    query = parse_qs(urlsplit(stored.url).query)
    assert query.get("X-Amz-Expires", query.get("Expires"))
    assert query.get("X-Amz-Signature", query.get("Signature"))
    assert stored.url.startswith(s3_server.url)
    assert files.absolute(stored.url) == stored.url
    assert fetch(stored.url) == b"three"


def test_our_link_redirects_to_a_fresh_signed_s3_link(
    s3_server: s3.S3Server, links: Client
) -> None:
    url = files.store("reports/a.pdf", b"three").url
    assert url.startswith("/files/")
    response = links.get(url)
    assert (response.status_code, response["Cache-Control"]) == (302, "private, no-store")
    assert response["Location"].startswith(s3_server.url)
    assert fetch(response["Location"]) == b"three"
    default_storage.delete("reports/a.pdf")
    assert links.get(url).status_code == 404


def test_the_message_of_a_report_has_room_for_its_link(
    s3_server: s3.S3Server, links: Client
) -> None:
    url = files.url_of(f"reports/{uuid.uuid4()}.pdf")
    assert len(f"Report ready: {url}") <= 200


def test_s3_without_file_overwrite_keeps_the_same_name(
    s3_server: s3.S3Server, settings: Any
) -> None:
    entry = s3.storage(s3_server.url)
    entry["OPTIONS"]["file_overwrite"] = False
    settings.STORAGES = {**settings.STORAGES, "default": entry}
    for content in (b"one", b"three"):
        files.store("reports/a.pdf", content)
    assert (s3_server.names(), read("reports/a.pdf")) == (["reports/a.pdf"], b"three")


def test_attachments_from_s3_and_a_missing_one(
    s3_server: s3.S3Server, mailoutbox: list[Any]
) -> None:
    files.store("invoices/7.pdf", b"%PDF-1.4")
    emails.email_job("ada@b.example", "Invoice", "welcome", {}, attachments=["invoices/7.pdf"])
    assert mailoutbox[0].attachments[0].content == b"%PDF-1.4"
    with pytest.raises(Discard, match="'invoices/8.pdf' is not in the storage"):
        emails.email_job("ada@b.example", "Invoice", "welcome", {}, attachments=["invoices/8.pdf"])


# --- killed between upload and settle -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_a_report_whose_worker_is_killed_after_the_upload_is_one_file(
    processes: Fleet, request: pytest.FixtureRequest, settings: Any, kind: str
) -> None:
    environment = {"WELLOS_TEST_MEDIA": str(settings.MEDIA_ROOT)}
    if kind == "s3":
        environment["WELLOS_TEST_S3"] = request.getfixturevalue("s3_server").url
    days = {"start": "2026-01-01", "end": "2026-01-31"}
    handle = reports.generate_report.enqueue(report_type="test-numbers", date_range=days)
    processes.worker("reports", environment=environment)
    processes.wait_until(lambda: handle.record().state == JobState.COMPLETED, 40, "the report")
    assert [attempt.outcome for attempt in JobAttempt.objects.filter(job=handle.id)] == ["crashed"]
    assert listed() == [f"{handle}.pdf"]
    assert read(f"reports/{handle}.pdf") == b"attempt 2"
    assert handle.record().result["size"] == 9
