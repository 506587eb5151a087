"""``contrib.cleanup`` and ``contrib.orphans``: what is deleted and what is kept."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import JobState
from wellos_jobs.contrib import cleanup, files, orphans
from wellos_jobs.definitions import registry
from wellos_jobs.definitions.retry import Fail
from wellos_jobs.enqueueing.context import CurrentJob, running
from wellos_jobs.errors import ConfigurationError
from wellos_jobs.models import DeadLetter, JobAttempt, JobRecord
from wellos_jobs.states import DeadLetterStatus, FailureReason

from ..models import Invoice
from ..support import s3
from ..support.processes import Fleet, children_of


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cleanup, "_expired_tokens", [])
    monkeypatch.setattr(cleanup, "_pending_users", [])
    monkeypatch.setattr(orphans, "_folders", {})
    with registry.isolated():
        yield


def expired(now: datetime) -> Any:
    return Session.objects.filter(expire_date__lt=now)


def make_sessions(count: int, days: int) -> None:
    when = timezone.now() + timedelta(days=days)
    Session.objects.bulk_create(
        Session(session_key=f"{days}-{number:05}", session_data="", expire_date=when)
        for number in range(count)
    )


def test_expired_tokens_are_deleted_and_counted(db: None) -> None:
    make_sessions(7, days=-1)
    make_sessions(3, days=1)
    cleanup.register_expired_tokens(expired)
    assert cleanup.cleanup_expired_tokens() == 7
    assert Session.objects.count() == 3
    assert cleanup.cleanup_expired_tokens() == 0


@pytest.mark.django_db(databases=["default", "other"])
def test_pending_users_are_deleted_with_their_rows_but_only_users_are_counted(db: None) -> None:
    user_model = get_user_model()
    for name, active in (("old", False), ("new", True)):
        user = user_model.objects.create_user(name, is_active=active)
        user.groups.create(name=f"group of {name}")
    cleanup.register_pending_users(
        lambda now: user_model.objects.filter(is_active=False, date_joined__lt=now)
    )
    assert cleanup.cleanup_pending_users() == 1
    assert [user.username for user in user_model.objects.all()] == ["new"]


def test_registering_rows_schedules_the_cleanup() -> None:
    assert registry.get("cleanup-expired-tokens").schedule is None
    cleanup.register_expired_tokens(expired)
    cleanup.register_pending_users(lambda now: get_user_model().objects.none())
    lines = {
        job.name: job.schedule.line
        for job in registry.all_jobs()
        if job.schedule and job.queue == "cleanup"
    }
    assert lines == {"cleanup-expired-tokens": "0 2 * * *", "cleanup-pending-users": "0 * * * *"}


def test_a_source_registered_twice_is_called_once(db: None) -> None:
    asked = []

    def source(now: datetime) -> Any:
        asked.append(now)
        return Session.objects.none()

    cleanup.register_expired_tokens(source)
    cleanup.register_expired_tokens(source)
    assert cleanup.cleanup_expired_tokens() == 0
    assert len(asked) == 1
    assert timezone.is_aware(asked[0])


def test_rows_are_deleted_in_batches(db: None) -> None:
    make_sessions(25, days=-1)
    with CaptureQueriesContext(connection) as queries:
        assert cleanup.delete_in_batches(Session.objects.all(), size=10) == 25
    deletes = [query["sql"] for query in queries if query["sql"].startswith("DELETE")]
    assert len(deletes) == 3


def test_a_row_that_leaves_the_queryset_before_its_batch_is_kept(db: None) -> None:
    make_sessions(25, days=-1)
    rows = expired(timezone.now())
    batches = cleanup._batches(rows, 10)
    first = next(batches)
    Session.objects.filter(pk=first[4]).update(expire_date=timezone.now() + timedelta(days=1))
    assert cleanup._delete(rows, first) == 9
    assert sum(cleanup._delete(rows, keys) for keys in batches) == 15
    assert [session.pk for session in Session.objects.all()] == [first[4]]


@pytest.mark.parametrize("job", [cleanup.cleanup_expired_tokens, cleanup.cleanup_pending_users])
def test_without_registered_rows_the_job_fails_at_once_with_advice(job: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"call wellos_jobs\.contrib\.cleanup\.register_"
    ) as error:
        job()
    assert job.definition.policy.decide(error.value, 1) == Fail(FailureReason.NOT_RETRYABLE)


def test_names_and_queue(db: None) -> None:
    tokens, users = (
        cleanup.cleanup_expired_tokens.enqueue(),
        cleanup.cleanup_pending_users.enqueue(),
    )
    assert [handle.record().name for handle in (tokens, users)] == [
        "cleanup-expired-tokens",
        "cleanup-pending-users",
    ]
    assert {handle.queue for handle in (tokens, users)} == {"cleanup"}


# --- sessions, progress, and a kill ---------------------------------------------------------------


def reporting(told: list[tuple[int, str]]) -> Any:
    """Set a current job that records its progress reports."""
    job = CurrentJob(
        id=str(uuid.uuid4()),
        name="cleanup-expired-tokens",
        queue="cleanup",
        attempt=1,
        max_attempts=3,
        _report=lambda percent, message, final: told.append((percent, message)),
    )
    return running(job)


def test_expired_sessions_are_deleted(db: None) -> None:
    make_sessions(3, days=-1)
    make_sessions(1, days=1)
    cleanup.register_expired_tokens(cleanup.expired_sessions)
    assert cleanup.cleanup_expired_tokens() == 3
    assert Session.objects.count() == 1


def test_sessions_outside_the_database_are_refused(settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    with pytest.raises(ConfigurationError, match="does not store sessions in the database"):
        cleanup.expired_sessions(timezone.now())


def test_a_cleanup_reports_its_progress(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "BATCH_SIZE", 10)
    make_sessions(25, days=-1)
    cleanup.register_expired_tokens(expired)
    told: list[tuple[int, str]] = []
    with reporting(told):
        assert cleanup.cleanup_expired_tokens() == 25
    assert told == [(40, "10 of 25 deleted"), (80, "20 of 25 deleted"), (99, "25 of 25 deleted")]


def make_held_job() -> JobRecord:
    """Make a job that an invoice holds, which ended long ago."""
    long_ago = timezone.now() - timedelta(days=400)
    job = JobRecord.objects.create(
        name="x", state="completed", created_at=long_ago, finished_at=long_ago
    )
    Invoice.objects.create(job=job)
    return job


def test_a_row_that_is_held_is_kept_and_the_others_go(
    db: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "BATCH_SIZE", 2)
    kept = make_held_job()
    for _ in range(3):
        JobRecord.objects.create(name="x", state="completed", created_at=timezone.now())
    cleanup.register_expired_tokens(lambda now: JobRecord.objects.filter(name="x"))

    assert cleanup.cleanup_expired_tokens() == 3
    assert JobRecord.objects.get() == kept
    assert f"{kept.pk} is kept because tests.Invoice holds it" in caplog.text


def test_old_jobs_that_are_held_do_not_keep_the_others(db: None) -> None:
    kept = make_held_job()
    free = make_held_job()
    Invoice.objects.filter(job=free).delete()

    assert cleanup.cleanup_old_jobs(ages={"completed": 86_400}) == 1
    assert JobRecord.objects.get() == kept


def test_a_killed_cleanup_has_deleted_whole_batches_and_continues(processes: Fleet) -> None:
    make_sessions(5_000, days=-1)
    make_sessions(3, days=1)
    handle = cleanup.cleanup_expired_tokens.enqueue()
    worker = processes.worker("cleanup", environment={"WELLOS_TEST_SLOW_CLEANUP": "1"})
    processes.wait_until(lambda: Session.objects.count() < 5_003, what="the first batch")
    os.kill(children_of(worker.pid)[0], signal.SIGKILL)
    processes.wait_until(
        lambda: JobAttempt.objects.filter(job=handle.id).exists(), what="the rescue"
    )
    processes.wait_until(lambda: handle.record().state == JobState.COMPLETED, 60, "the rest")
    assert Session.objects.count() == 3
    assert 0 < handle.record().result < 5_000
    assert handle.record().result % cleanup.BATCH_SIZE == 0
    assert [attempt.outcome for attempt in JobAttempt.objects.filter(job=handle.id)] == ["crashed"]


# --- old jobs -------------------------------------------------------------------------------------


def ended(state: str, days: float) -> JobRecord:
    at = timezone.now() - timedelta(days=days)
    return JobRecord.objects.create(
        name="old", queue="default", state=state, created_at=at, finished_at=at
    )


def test_old_jobs_are_deleted_by_state_and_age(db: None) -> None:
    for state in (JobState.COMPLETED, JobState.CANCELED, JobState.FAILED):
        ended(state, days=8)
        ended(state, days=6)
    ended(JobState.FAILED, days=400)
    told: list[tuple[int, str]] = []
    with reporting(told):
        assert (
            cleanup.cleanup_old_jobs({"completed": timedelta(days=7), "failed": 300 * 86_400}) == 2
        )
    assert told == [(99, "2 of 2 deleted")]
    left = sorted(
        (job.state, (timezone.now() - job.finished_at).days) for job in JobRecord.objects.all()
    )
    assert left == [
        ("canceled", 6),
        ("canceled", 8),
        ("completed", 6),
        ("failed", 6),
        ("failed", 8),
    ]


def test_an_open_dead_letter_keeps_its_job_unless_dead_letters_are_deleted_too(db: None) -> None:
    job = ended(JobState.FAILED, days=8)
    DeadLetter.objects.create(
        job=job,
        reason="exhausted",
        fingerprint="f",
        status=DeadLetterStatus.OPEN,
        created_at=job.finished_at,
    )
    week = timedelta(days=7)
    assert cleanup.cleanup_old_jobs({"failed": week}) == 0
    assert cleanup.cleanup_old_jobs({"failed": week, "dead_letters": week}) == 2
    assert not JobRecord.objects.exists()


@pytest.mark.parametrize(
    ("ages", "fault"),
    [
        ({"done": 60}, "Unknown key 'done' in ages: use completed, canceled, failed, dead_letters"),
        ({"failed": 0}, "must be between 1 and"),
        ({"failed": "old"}, "give a number of seconds or a timedelta"),
    ],
)
def test_invalid_ages_delete_nothing(ages: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError) as error:
        cleanup.cleanup_old_jobs(ages)
    assert fault in error.value.message


# --- orphaned files -------------------------------------------------------------------------------


@pytest.fixture
def media(tmp_path: Path, settings: Any) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path / "media"


def put(media: Path, name: str, *, days: float = 2) -> Path:
    """Store a file with an age in days."""
    files.store(name, b"x")
    then = time.time() - days * 86_400
    os.utime(media / name, (then, then))
    return media / name


def names_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_orphans_are_deleted_but_files_in_use_young_or_elsewhere_are_kept(media: Path) -> None:
    for name in (
        "photos/a.png",
        "photos/deep/er/b.png",
        "photos/needed.png",
        "photosynthesis.txt",
        "invoices/1.pdf",
    ):
        put(media, name)
    put(media, "photos/young.png", days=0.9)
    asked: list[str] = []

    def in_use(names: Sequence[str]) -> list[str]:
        asked.extend(names)
        return ["photos/needed.png"]

    orphans.register("photos/", in_use)
    assert orphans.cleanup_orphaned_files(dry_run=True) == 2
    assert len(names_below(media)) == 6
    assert orphans.cleanup_orphaned_files() == 2
    assert names_below(media) == {
        "photos/needed.png",
        "photosynthesis.txt",
        "invoices/1.pdf",
        "photos/young.png",
    }
    assert set(asked) == {"photos/a.png", "photos/deep/er/b.png", "photos/needed.png"}
    assert orphans.cleanup_orphaned_files() == 0


def test_a_dry_run_logs_what_it_would_delete(media: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(media, "photos/a.png")
    orphans.register("photos/", lambda names: [])
    with caplog.at_level("INFO", "wellos_jobs.contrib"):
        orphans.cleanup_orphaned_files(dry_run=True)
    assert "orphaned file photos/a.png (dry run: not deleted)" in caplog.messages


def test_links_are_not_followed_and_not_deleted(media: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("x")
    os.utime(outside / "precious.txt", (0, 0))
    put(media, "photos/a.png")
    (media / "photos" / "folder").symlink_to(outside)
    (media / "photos" / "file").symlink_to(outside / "precious.txt")
    orphans.register("photos/", lambda names: [])
    assert orphans.cleanup_orphaned_files() == 1
    assert (outside / "precious.txt").exists()
    assert (media / "photos" / "file").is_symlink()


def test_a_file_rewritten_during_the_cleanup_is_kept(media: Path) -> None:
    put(media, "photos/a.png")

    def in_use(names: Sequence[str]) -> list[str]:
        files.store("photos/a.png", b"new")
        return []

    orphans.register("photos/", in_use)
    assert orphans.cleanup_orphaned_files() == 0
    assert (media / "photos" / "a.png").read_bytes() == b"new"


@pytest.mark.django_db(databases=["default", "other"])
def test_reports_of_pruned_jobs_are_deleted(media: Path) -> None:
    job = ended(JobState.COMPLETED, days=2)
    at = timezone.now()
    other = JobRecord.objects.using("other").create(name="old", queue="default", created_at=at)
    kept = {f"reports/{job.pk}.pdf", f"reports/{other.pk}.csv", "reports/by-hand.pdf"}
    gone = {f"reports/{uuid.uuid4()}.pdf", f"reports/.{uuid.uuid4()}.pdf.draft"}
    for name in kept | gone:
        put(media, name)
    orphans.register("reports/", orphans.of_jobs)
    assert orphans.cleanup_orphaned_files() == 2
    assert names_below(media) == kept


def test_a_missing_folder_is_ignored(media: Path) -> None:
    orphans.register("photos/", lambda names: [])
    assert orphans.cleanup_orphaned_files() == 0


@pytest.mark.parametrize(
    "prefix", ["", "/", "photos", "/photos/", "../", "photos/../../", "./", "photos//"]
)
def test_a_prefix_must_be_a_folder_below_the_root(prefix: str) -> None:
    with pytest.raises(ValueError, match="give a folder below the storage's root"):
        orphans.register(prefix, lambda names: [])


def test_a_prefix_is_registered_once_and_schedules_the_cleanup() -> None:
    assert registry.get("cleanup-orphaned-files").schedule is None
    orphans.register("photos/", lambda names: [])
    assert registry.get("cleanup-orphaned-files").schedule == orphans.NIGHTLY
    with pytest.raises(ValueError, match="is already registered"):
        orphans.register("photos/", lambda names: [])


def test_without_registered_folders_the_job_fails_with_advice() -> None:
    with pytest.raises(ConfigurationError, match=r"call wellos_jobs\.contrib\.orphans\.register"):
        orphans.cleanup_orphaned_files()


def test_orphans_in_s3(settings: Any) -> None:
    with s3.S3Server() as server:
        settings.STORAGES = {**settings.STORAGES, "default": s3.storage(server.url)}
        for name in ("photos/a.png", "photos/deep/b.png", "photos/needed.png", "other/c.png"):
            files.store(name, b"x")
        orphans.register("photos/", lambda names: ["photos/needed.png"])
        assert orphans.cleanup_orphaned_files() == 0  # they are too young
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(orphans, "MIN_AGE", timedelta(seconds=-60))
            assert orphans.cleanup_orphaned_files() == 2
        assert server.names() == ["other/c.png", "photos/needed.png"]
