"""A project with Django's documented router: reads from a replica that is behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connections, models, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from wellos_jobs import Batch, Flow, Priority, database, errors, operations
from wellos_jobs.broker import keys
from wellos_jobs.database import job_databases
from wellos_jobs.maintenance.housekeeping import Housekeeping
from wellos_jobs.models import Batch as BatchRow
from wellos_jobs.models import DeadLetter, JobRecord, LedgerCursor, Schedule
from wellos_jobs.monitoring import health
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.schedules import run_now
from wellos_jobs.sql import insert_rows

from .. import jobs
from ..support.admin_pages import FILES, PAGES, fill, report_kinds
from ..support.engine import Books, Hand, work
from ..support.users import client_of

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("no_notices", "router"),
]


class PrimaryReplicaRouter:
    """As in Django's documentation, "An example": ``other`` is the replica."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "other"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, obj1: Any, obj2: Any, **hints: Any) -> bool | None:
        return True if {obj1._state.db, obj2._state.db} <= {"default", "other"} else None

    def allow_migrate(self, *_: Any, **__: Any) -> bool:
        return True


@pytest.fixture
def router(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.PrimaryReplicaRouter"]
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"


def replicate() -> None:
    """Let the replica catch up, once."""
    with transaction.atomic(using="other"), connections["other"].constraint_checks_disabled():
        for app in ("auth", "wellos_jobs"):
            for model in apps.get_app_config(app).get_models():
                if not model._meta.managed or model._meta.proxy:
                    continue
                model._base_manager.using("other").delete()
                insert_rows(list(model._base_manager.using("default")), "other")


READ_ONLY = {
    "sqlite": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
    "postgresql": (
        "SET default_transaction_read_only = on",
        "SET default_transaction_read_only = off",
    ),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ WRITE"),
}


@contextmanager
def read_only(alias: str = "other") -> Iterator[None]:
    """As a replica is: the database itself refuses to write."""
    begin, end = READ_ONLY[connections[alias].vendor]
    with connections[alias].cursor() as cursor:
        cursor.execute(begin)
    try:
        yield
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute(end)


def stale(row: Any) -> Any:
    """Return a row as the replica has it."""
    return type(row)._base_manager.using("other").get(pk=row.pk)


@contextmanager
def nothing_asked_of(alias: str = "other") -> Iterator[None]:
    """Fail at a query of our tables there."""

    def refuse(execute: Any, sql: str, *more: Any) -> Any:
        assert "wellos_jobs_" not in sql, sql
        return execute(sql, *more)

    with connections[alias].execute_wrapper(refuse):
        yield


# --- acts -----------------------------------------------------------------------------------------


def _delayed(**options: Any) -> JobRecord:
    return jobs.noop.using(delay=3600, **options).enqueue().record()


def _failed() -> JobRecord:
    handle = jobs.fail.enqueue(message="the partner is away")
    work()
    return Books().row(handle)


def _letter() -> DeadLetter:
    return DeadLetter.objects.get(job=_failed())


def _schedule() -> Schedule:
    row = Schedule(name="nightly", job_name="test-noop", cron="0 2 * * *")
    operations.save_schedule(row)
    return row


def _batch() -> BatchRow:
    with Batch(name="import") as batch:
        batch.enqueue(jobs.noop)
    return BatchRow.objects.get(pk=batch.id)


def _row(rows: Any) -> Any:
    return type(rows)._base_manager.using("default").get(pk=rows.pk)


def _rows(row: Any) -> Any:
    return type(row)._default_manager.using("other").filter(pk=row.pk)


def _edited(row: Schedule) -> None:
    row.cron = "0 3 * * *"
    operations.save_schedule(row)


Act = tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], bool]]
ACTS: dict[str, Act] = {
    "cancel": (_delayed, operations.cancel, lambda job: job.state == "canceled"),
    "retry, delayed": (_delayed, operations.retry, lambda job: job.state == "waiting"),
    "retry, failed": (_failed, operations.retry, lambda job: job.state == "waiting"),
    "promote": (_delayed, operations.promote, lambda job: job.state == "waiting"),
    "priority": (
        _delayed,
        lambda job: operations.change_priority(job, Priority.HIGH),
        lambda job: job.priority == Priority.HIGH,
    ),
    "move": (_delayed, lambda job: operations.move(job, "email"), lambda job: job.queue == "email"),
    "cancel_many": (
        _delayed,
        lambda job: operations.cancel_many(_rows(job)),
        lambda job: job.state == "canceled",
    ),
    "retry_many": (
        _failed,
        lambda job: operations.retry_many([job]),
        lambda job: job.state == "waiting",
    ),
    "enqueue_copy": (_delayed, operations.enqueue_copy, lambda _: JobRecord.objects.count() == 2),
    "handle": (
        _delayed,
        lambda job: operations.cancel(_handle(job)),
        lambda job: job.state == "canceled",
    ),
    "replay": (_letter, operations.replay, lambda letter: letter.status == "replayed"),
    "replay_edited": (
        _letter,
        lambda letter: operations.replay_edited(letter, {"message": "x"}),
        lambda letter: letter.job.data == {"message": "x"},
    ),
    "replay_many": (
        _letter,
        lambda letter: operations.replay_many(_rows(letter)),
        lambda letter: letter.status == "replayed",
    ),
    "canary": (
        _letter,
        lambda letter: operations.send_canary(_rows(letter)),
        lambda letter: letter.status == "replayed",
    ),
    "discard": (_letter, operations.discard, lambda letter: letter.status == "discarded"),
    "assign": (
        _letter,
        lambda letter: operations.assign([letter], None, "mine"),
        lambda letter: letter.note == "mine",
    ),
    "run_schedule_now": (
        _schedule,
        operations.run_schedule_now,
        lambda _: JobRecord.objects.count() == 1,
    ),
    "run_now": (_schedule, run_now, lambda _: JobRecord.objects.count() == 1),
    "disable": (_schedule, operations.disable_schedule, lambda row: not row.enabled),
    "save": (_schedule, _edited, lambda row: row.cron == "0 3 * * *"),
    "cancel_batch": (
        _batch,
        lambda batch: operations.cancel_batch(batch.pk, database="other"),
        lambda batch: batch.state != "open",
    ),
    "cancel_batches": (
        _batch,
        lambda batch: operations.cancel_batches([batch]),
        lambda batch: batch.state != "open",
    ),
}


def _handle(job: JobRecord) -> Any:
    from wellos_jobs import JobHandle

    return JobHandle(job.pk, job.queue, "other")


@pytest.mark.parametrize("name", ACTS)
def test_acts_on_rows_of_the_replica_change_the_primary(name: str) -> None:
    make, act, is_done = ACTS[name]
    row = make()
    Books().fold()
    replicate()
    with read_only():
        act(stale(row))
        Books().fold()
        assert is_done(_row(row))


def test_what_the_replica_does_not_know_yet_decides() -> None:
    """The row was moved, and has ended, since the replica was read."""
    record = _delayed()
    replicate()
    operations.move(record, "email")
    with read_only():
        operations.promote(stale(record))
        assert _row(record).queue == "email"
        Hand("email").run()
        Books().fold()
        with pytest.raises(errors.InvalidOperation, match="is completed already"):
            operations.cancel(stale(record))


def test_a_schedule_and_a_job_that_are_gone() -> None:
    row, record = _schedule(), _delayed()
    replicate()
    operations.delete_schedule(row)
    JobRecord.objects.filter(pk=record.pk).delete()
    with read_only():
        with pytest.raises(errors.InvalidOperation, match="already deleted"):
            operations.disable_schedule(stale(row))
        with pytest.raises(errors.JobNotFound):
            operations.cancel(stale(record))
    assert not Schedule.objects.exists()


def test_flows_batches_and_related_rows() -> None:
    with nothing_asked_of(), read_only():
        flow = Flow(jobs.noop.with_data(), children=[jobs.fail.with_data()]).enqueue()
        for _ in range(2):
            work()
            Books().fold()
        letter = DeadLetter.objects.get()
        assert letter.job.dead_letters.get() == letter
        letter.job.refresh_from_db()
        assert operations.retry_flow(flow.id)
        batch = Batch.get(_batch().pk)
        batch.enqueue(jobs.noop)
        assert batch.progress["total"] == 2


# --- pages ----------------------------------------------------------------------------------------


@pytest.fixture
def everything() -> Iterator[Client]:
    with report_kinds(), nothing_asked_of():
        root = fill()
        User(**{field.attname: getattr(root, field.attname) for field in User._meta.fields}).save(
            using="other"
        )
        with read_only():
            yield client_of(root)


def test_no_page_reads_the_replica(everything: Client) -> None:
    for page in (*PAGES, *FILES):
        assert everything.get(page.url()).status_code == 200, page


def test_status_and_cancel(everything: Client) -> None:
    handle = jobs.noop.enqueue()
    status = everything.get(reverse("wellos_jobs:job-status", args=[handle.id]))
    assert (status.status_code, status.json()["state"]) == (200, "waiting")
    canceled = everything.post(reverse("wellos_jobs:job-cancel", args=[handle.id]))
    assert (canceled.status_code, canceled.json()["state"]) == (200, "canceled")


def test_the_buttons_of_the_admin(everything: Client) -> None:
    job = JobRecord.objects.filter(state="delayed", queue="email").get()
    url = reverse("admin:wellos_jobs_job_act", args=[job.pk, "cancel"])
    assert everything.post(url, {"action": "confirm", "reason": "x"}).status_code == 302
    Books().fold()
    assert _row(job).state == "canceled"

    letters = reverse("admin:wellos_jobs_deadletter_changelist")
    sent = {"action": "replay_dead_letters", "select_across": "1", "_selected_action": "1"}
    sent |= {"confirm": "yes", "reason": "x"}
    assert everything.post(letters, sent).status_code == 302
    assert DeadLetter.objects.filter(status="replayed").exists()

    views = reverse("admin:wellos_jobs_jobrecord_views")
    view = {"action": "save", "name": "mine", "query": "q=1"}
    assert everything.post(views, view).status_code == 302


# --- the books ------------------------------------------------------------------------------------


def test_a_replica_gets_no_books(
    settings: Any, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its old rows look as if they had never reached Redis; they are not pushed again."""
    handle = jobs.noop.enqueue()
    JobRecord.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    replicate()
    keeping = Housekeeping("default", Slot())
    monkeypatch.setattr(keeping, "_wait", lambda: None)
    work()
    with nothing_asked_of(), read_only():
        keeping.round()
        redis_client.delete(keys.job(handle.id))
        for part in keeping.databases:
            part.rebuild()
        keeping.round()

    assert [part.database for part in keeping.databases] == ["default"]
    assert _row(handle.record()).state == "completed"
    assert not redis_client.exists(keys.job(handle.id))
    assert redis_client.xlen(keys.EVENTS) == 0
    assert LedgerCursor.objects.using("other").count() == 0
    assert [check.where for check in health.report().named("database")] == ["default"]


@pytest.mark.parametrize("named", [None, ["default"], ["other", "default"]])
def test_a_replica_holds_no_jobs_even_if_it_is_named(settings: Any, named: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_DATABASES": named}
    assert job_databases() == ["default"]
    with pytest.raises(errors.BadOption, match="'other': that is not one of the databases"):
        jobs.noop.using(database="other").enqueue()


def test_rows_of_a_database_without_jobs_are_left_alone(settings: Any) -> None:
    """Without a word of the router: the numbers of its dead letters mean others here."""
    settings.DATABASE_ROUTERS = []
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_DATABASES": ["default"]}
    letter = _letter()
    replicate()
    for act in (operations.discard, operations.replay):
        with pytest.raises(errors.InvalidOperation, match="read from the database other"):
            act(stale(letter))
    assert _row(letter).status == "open"
    with pytest.raises(errors.InvalidOperation):
        operations.discard_many(_rows(letter))
    assert database.database_of(letter) == "default"


def test_related_managers_read_where_they_write() -> None:
    for model in apps.get_app_config("wellos_jobs").get_models():
        if model._meta.managed:
            rows: models.QuerySet[Any] = model._base_manager.all()
            assert rows.db == model._default_manager.all().db == "default", model
