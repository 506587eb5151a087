"""Prune: rows go by their state and age, in batches, and nothing else goes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import operations
from wellos_jobs.maintenance import held_rows, prune
from wellos_jobs.models import (
    AuditEntry,
    DayStatistic,
    DeadLetter,
    HourStatistic,
    JobAttempt,
    JobRecord,
    JobStatistic,
    UniqueClaim,
)
from wellos_jobs.states import DeadLetterStatus, JobState

pytestmark = pytest.mark.django_db(databases=["default", "other"])

FINAL = ("completed", "canceled", "failed")
NOTHING = {
    "dead_letters": 0,
    "completed": 0,
    "canceled": 0,
    "failed": 0,
    "statistics": 0,
    "audit": 0,
}


def ended(state: str, days: float, *, using: str = "default") -> JobRecord:
    """A job that ended so many days ago."""
    at = timezone.now() - timedelta(days=days)
    return JobRecord.objects.using(using).create(
        name="old",
        queue="default",
        state=state,
        created_at=at,
        finished_at=at if state in FINAL else None,
    )


def letter(job: JobRecord, days: float, status: str = "open") -> DeadLetter:
    at = timezone.now() - timedelta(days=days)
    return DeadLetter.objects.create(
        job=job, reason="exhausted", fingerprint="f", status=status, created_at=at
    )


def keep(settings: Any, **days: float | None) -> None:
    retention = {state: None if age is None else timedelta(days=age) for state, age in days.items()}
    settings.WELLOS_JOBS = {"RETENTION": retention}


def left() -> list[Any]:
    return list(JobRecord.objects.order_by("created_at"))


def test_by_default_completed_and_canceled_stay_30_days_and_failed_180() -> None:
    kept = [ended("failed", 179), ended("completed", 29), ended("canceled", 29)]
    for state, days in (("completed", 31), ("canceled", 31), ("failed", 181)):
        ended(state, days)
    assert prune.prune("default") == NOTHING | {"completed": 1, "canceled": 1, "failed": 1}
    assert left() == kept


@pytest.mark.parametrize("state", sorted(set(JobState) - set(FINAL)))
def test_open_jobs_are_never_pruned(state: str) -> None:
    ended(state, 3650)
    assert prune.prune("default") == NOTHING


def test_attempts_and_closed_letters_are_deleted_with_their_job_but_not_the_audit_log() -> None:
    job = ended("failed", 200)
    letter(job, 200, DeadLetterStatus.DISCARDED)
    JobAttempt.objects.create(job=job, number=1, outcome="failed", ended_at=timezone.now())
    AuditEntry.objects.create(
        at=timezone.now(), action="discarded", target_type="job", target_id=str(job.pk)
    )
    assert prune.prune("default")["failed"] == 1
    assert JobAttempt.objects.count() == DeadLetter.objects.count() == 0
    assert AuditEntry.objects.count() == 1


def test_a_failed_job_with_an_open_letter_is_kept_forever() -> None:
    letter(ended("failed", 3650), 3650)
    assert prune.prune("default") == NOTHING


def test_open_letters_can_have_a_retention(settings: Any) -> None:
    keep(settings, dead_letters=365, failed=30)
    young = ended("failed", 300)
    letter(young, 300)
    letter(ended("failed", 400), 400)
    assert prune.prune("default", dry_run=True) == NOTHING | {"dead_letters": 1, "failed": 1}
    assert prune.prune("default") == NOTHING | {"dead_letters": 1, "failed": 1}
    assert left() == [young]


def statistic(days: float) -> DayStatistic:
    return DayStatistic.objects.create(
        begins_at=timezone.now() - timedelta(days=days), queue="default", name="old"
    )


def entry(days: float) -> AuditEntry:
    at = timezone.now() - timedelta(days=days)
    return AuditEntry.objects.create(
        at=at, action="paused", target_type="queue", target_id="default"
    )


def test_statistics_are_kept_90_days_and_the_audit_log_forever() -> None:
    young, written = statistic(89), entry(3650)
    statistic(91)
    assert prune.prune("default", dry_run=True) == NOTHING | {"statistics": 1}
    assert prune.prune("default") == NOTHING | {"statistics": 1}
    assert list(DayStatistic.objects.all()) == [young]
    assert list(AuditEntry.objects.all()) == [written]


def test_statistics_by_minute_and_hour_are_deleted_when_no_chart_reads_them() -> None:
    now = timezone.now()
    for age in (2, 4, 14, 16):
        at = now - timedelta(days=age)
        JobStatistic.objects.create(begins_at=at, queue="default", name="x")
        HourStatistic.objects.create(begins_at=at, queue="default", name="x")
    assert prune.prune("default", dry_run=True)["statistics"] == 4
    assert prune.prune("default", most=1)["statistics"] == 4
    assert JobStatistic.objects.count() == 1
    assert HourStatistic.objects.count() == 3


def test_retention_of_statistics_and_audit_log(settings: Any) -> None:
    keep(settings, statistics=None, audit=365)
    statistic(3650)
    young = entry(364)
    entry(366)
    assert prune.prune("default") == NOTHING | {"audit": 1}
    assert list(AuditEntry.objects.all()) == [young]
    assert DayStatistic.objects.count() == 1


def test_none_keeps_forever(settings: Any) -> None:
    keep(settings, completed=None)
    ended("completed", 3650)
    assert prune.prune("default") == NOTHING


def test_a_dry_run_counts_and_deletes_nothing() -> None:
    for state in FINAL:
        ended(state, 1000)
    assert prune.prune("default", dry_run=True) == NOTHING | dict.fromkeys(FINAL, 1)
    assert len(left()) == 3


@contextmanager
def once_chosen(act: Callable[[], Any], *texts: str) -> Iterator[None]:
    """Let somebody act right after the rows to delete have been chosen, by the first statement that
    has these texts."""
    done: list[Any] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        wanted = (f"LIMIT {held_rows.BATCH}", *texts)
        if (
            sql.startswith("SELECT")
            and all(text in f"{sql} {params}" for text in wanted)
            and not done
        ):
            done.append(None)
            act()
        return result

    with connections["default"].execute_wrapper(watch):
        yield
    assert done


def test_a_job_that_is_retried_meanwhile_is_kept() -> None:
    job, other = ended("failed", 200), ended("failed", 200)
    with once_chosen(lambda: operations.retry(job), "JobState.FAILED"):
        assert prune.prune("default")["failed"] == 1
    assert left() == [job]
    assert not JobRecord.objects.filter(pk=other.pk).exists()


def test_a_unique_key_that_is_taken_over_meanwhile_is_kept() -> None:
    """Else a second job would get it while the first one counts."""
    cases = (("ended", None, "EXISTS"), ("expired", timezone.now() - timedelta(days=1), "< %s"))
    for key, expires, condition in cases:
        UniqueClaim.objects.create(key=key, job=uuid.uuid4(), expires=expires)
        alive = ended("waiting", 0)
        taken = UniqueClaim.objects.filter(pk=key)
        later = None if expires is None else timezone.now() + timedelta(days=1)
        with once_chosen(
            partial(taken.update, job=alive.pk, expires=later), "uniqueclaim", condition
        ):
            prune.prune("default")
        assert taken.get().job == alive.pk


def test_expired_unique_keys_are_deleted_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_rows, "BATCH", 2)
    over = timezone.now() - timedelta(seconds=1)
    UniqueClaim.objects.bulk_create(
        UniqueClaim(key=str(n), job=uuid.uuid4(), expires=over) for n in range(5)
    )
    with CaptureQueriesContext(connections["default"]) as queries:
        prune.prune("default")
    assert UniqueClaim.objects.count() == 0
    assert sum("DELETE" in query["sql"] for query in queries) == 3


def test_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_rows, "BATCH", 10)
    for _ in range(25):
        ended("completed", 40)
    with CaptureQueriesContext(connections["default"]) as captured:
        assert prune.prune("default")["completed"] == 25
    deletes = [
        query["sql"]
        for query in captured
        if query["sql"].startswith("DELETE") and "jobrecord" in query["sql"]
    ]
    assert len(deletes) == 3
    assert left() == []


def test_the_number_of_batches_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_rows, "BATCH", 10)
    for _ in range(25):
        ended("completed", 40)
    assert [prune.prune("default", most=1)["completed"] for _ in range(4)] == [10, 10, 5, 0]


def test_the_batch_is_a_thousand() -> None:
    assert held_rows.BATCH == 1_000


def test_only_the_given_database() -> None:
    ended("completed", 40)
    ended("completed", 40, using="other")
    assert prune.prune("other")["completed"] == 1
    assert JobRecord.objects.count() == 1


def test_the_command_prunes_all_databases(capsys: pytest.CaptureFixture[str]) -> None:
    ended("completed", 40)
    ended("failed", 200, using="other")
    call_command("jobs_prune", dry_run=True)
    assert "default: completed jobs: 1 would be deleted" in capsys.readouterr().out
    assert JobRecord.objects.count() == 1
    call_command("jobs_prune")
    out = capsys.readouterr().out
    assert "default: completed jobs: 1 deleted" in out
    assert "other: failed jobs: 1 deleted" in out
    assert JobRecord.objects.count() == JobRecord.objects.using("other").count() == 0


def test_the_command_on_one_database(capsys: pytest.CaptureFixture[str]) -> None:
    ended("completed", 40)
    call_command("jobs_prune", database=["other"])
    assert "default" not in capsys.readouterr().out
    assert JobRecord.objects.count() == 1
