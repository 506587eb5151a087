"""What the rows say about jobs, for tests that wait until they say it."""

from __future__ import annotations

from collections import Counter

from django.db.models import Sum

from wellos_jobs import JobHandle
from wellos_jobs.models import JobAttempt, JobRecord, JobStatistic

COUNTS = ("enqueued", "started", "completed", "retried", "snoozed", "failed", "canceled", "rescued")


def row(handle: JobHandle) -> JobRecord:
    """Return a job's row as it is now."""
    return JobRecord.objects.using(handle.database).get(pk=handle.id)


def has_state(handle: JobHandle, state: str) -> bool:
    """Return whether a job's row has this state; if not, the failure says what it has."""
    found = row(handle)
    assert found.state == state, (
        f"{found} is {found.state} after {found.attempts} attempts ({found.error})"
    )
    return True


def all_have_state(state: str, count: int, database: str = "default") -> bool:
    """Whether there are ``count`` rows and all have this state; if not, the failure says what
    they have."""
    found = Counter(JobRecord.objects.using(database).values_list("state", flat=True))
    assert found == {state: count}, dict(found)
    return True


def attempts(handle: JobHandle) -> list[tuple[int, str]]:
    """Return the attempts of a job that did not complete, in order: number and outcome."""
    found = JobAttempt.objects.using(handle.database).filter(job_id=handle.id).order_by("pk")
    return list(found.values_list("number", "outcome"))


def statistics(name: str = "test-scripted", database: str = "default") -> dict[str, int]:
    """Return the sums over all minutes and queues for the jobs of one name, without the zeros."""
    rows = JobStatistic.objects.using(database).filter(name=name)
    sums = rows.aggregate(**{f"sum_{column}": Sum(column) for column in COUNTS})
    return {column: number for column in COUNTS if (number := sums[f"sum_{column}"])}
