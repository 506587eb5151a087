"""Batches: when they are done, which callbacks run and how often, and what can go wrong."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import Batch, broker, errors, operations
from wellos_jobs.broker import claims, queues
from wellos_jobs.broker.claims import Outcome
from wellos_jobs.enqueueing import dependencies
from wellos_jobs.ledger.projection import Projection
from wellos_jobs.maintenance import prune
from wellos_jobs.maintenance.relay import Rebuild
from wellos_jobs.models import AuditEntry, DeadLetter, JobRecord
from wellos_jobs.models import Batch as Row

from ..conftest import UseRedis
from ..jobs import fail, noop, scripted
from ..support.engine import Books, Hand, stream, work
from ..support.guarded_jobs import adds, once, summary
from ..support.journal import Journal
from ..support.processes import wait_until
from ..support.rough_jobs import own_batch, own_batch_async
from ..support.servers import free_port
from .test_flows import in_thread, run_all

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]


def callbacks(journal: Journal) -> dict[str, Any]:
    return {
        "on_complete": summary.with_data(journal=f"{journal}.complete"),
        "on_success": summary.with_data(journal=f"{journal}.success"),
    }


def calls(journal: Journal) -> tuple[int, int]:
    """How often on_complete and on_success have run."""
    complete, success = (
        Journal(journal.path.with_name(f"{journal.path.name}.complete")),
        Journal(journal.path.with_name(f"{journal.path.name}.success")),
    )
    return len(complete.starts()), len(success.starts())


# --- done -----------------------------------------------------------------------------------------


def test_done_once_all_jobs_are_final(books: Books, journal: Journal) -> None:
    with Batch(name="import", organization="acme", **callbacks(journal)) as batch:
        batch.enqueue(noop)
        handles = batch.enqueue_bulk(noop, [{}] * 4)
        assert batch.state == "open"
    assert batch.state == "closed" and not batch.wait(0)
    assert batch.progress == {
        "total": 5,
        "completed": 0,
        "failed": 0,
        "canceled": 0,
        "open": 5,
        "percent": 0,
    }
    hand = Hand()
    for _ in range(4):
        hand.run()
    books.fold()
    assert batch.progress["percent"] == 80 and calls(journal) == (0, 0)
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 1)
    row = Row.objects.get()
    assert (row.total, row.completed, row.failed, row.canceled) == (
        5,
        5,
        0,
        0,
    ) and row.finished_at is not None
    callback = JobRecord.objects.filter(name="test-summary").first()
    assert (
        callback is not None
        and callback.organization_id == "acme"
        and callback.result["completed"] == 5
    )
    assert callback.data["batch_id"] == str(batch.id) and callback.batch_id is None
    assert {handle.record().batch_id for handle in handles} == {batch.id}


def test_delayed_and_retrying_jobs_are_not_done(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(scripted, steps=["on:1:retry:0.3"])
        snoozes = batch.enqueue(scripted, steps=["snooze:60"])
    hand = Hand()
    hand.run()
    hand.run()
    books.fold()
    assert batch.progress["open"] == 2 and not batch.wait(0.1) and calls(journal) == (0, 0)
    snoozes.cancel()
    wait_until(lambda: work() and books.fold() == 0 and batch.wait(0))
    run_all(books)
    assert calls(journal) == (1, 0)


def test_an_open_batch_is_not_done(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(noop)
        run_all(books)
        assert batch.progress["percent"] == 100 and not batch.wait(0)
        batch.enqueue(noop)
    assert batch.state == "closed"
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 1)


def test_an_empty_batch_completes(books: Books, journal: Journal) -> None:
    with Batch(name="nothing", **callbacks(journal)) as batch:
        pass
    assert batch.wait(0) and batch.progress["total"] == 0
    run_all(books)
    assert calls(journal) == (1, 1)


def test_all_final_before_it_is_closed(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(noop)
        run_all(books)
    assert batch.wait(0)
    run_all(books)
    assert calls(journal) == (1, 1)


def test_a_failure_cancels_on_success(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(noop)
        batch.enqueue(fail)
    run_all(books)
    assert calls(journal) == (1, 0) and batch.progress["failed"] == 1
    called_off = JobRecord.objects.get(state="canceled")
    assert called_off.error == dependencies.NOT_CLEAN


def test_dependents_of_a_canceled_callback_end_too(books: Books) -> None:
    with Batch(name="import", on_success=noop.with_data()) as batch:
        batch.enqueue(fail)
        callback = Row.objects.get().on_success
        after = noop.using(depends_on=[callback]).enqueue()
    run_all(books)
    assert batch.wait(0) and after.state == "canceled"


def test_a_done_batch_takes_no_more_jobs(books: Books) -> None:
    with Batch(name="import") as batch:
        pass
    with pytest.raises(errors.InvalidOperation, match="'import' is done"):
        batch.enqueue(noop)
    assert JobRecord.objects.count() == 0


# --- adding ---------------------------------------------------------------------------------------


@pytest.mark.system
def test_ten_thousand_streamed(books: Books) -> None:
    taken: list[int] = []

    def rows() -> Any:
        for number in range(10_000):
            taken.append(number)
            yield {}

    with Batch(name="import") as batch:
        with CaptureQueriesContext(connection) as captured:
            handles = batch.enqueue_bulk(noop, rows())
        assert len(captured) <= 80, len(captured)
        assert len(taken) == 10_000 and len(set(handles)) == 10_000
    assert batch.progress["total"] == 10_000
    assert queues.counts("default").waiting == 10_000


def test_nested_adding_from_inside_a_job(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(adds, count=3)
    Hand().run()
    books.fold()
    assert batch.state == "closed" and batch.progress["total"] == 4
    run_all(books)
    assert batch.wait(0) and batch.progress["completed"] == 4 and calls(journal) == (1, 1)


@pytest.mark.parametrize("added", [own_batch, own_batch_async])
def test_a_run_knows_its_batch_without_a_query(books: Books, added: Any) -> None:
    """An async job cannot ask the database in passing; what was pushed again knows it, too."""
    with Batch(name="import") as batch:
        handles = batch.enqueue_bulk(added, [{}] * 2)
    handles.append(added.enqueue())
    broker.client("default").flushall()
    books = Books()
    Rebuild("default", ["default"], books.connection).step()
    with CaptureQueriesContext(connection) as queries:
        outcomes = [Hand().run() for _ in handles]
    assert not queries
    assert sorted(outcome.result for outcome in outcomes) == sorted(
        [f'"{batch.id}"', f'"{batch.id}"', "null"]
    )


def test_a_job_without_a_batch_has_no_batch_id(books: Books) -> None:
    handle = adds.enqueue(count=1)
    Hand().run()
    books.fold()
    assert "AssertionError" in handle.record().attempt_set.get().traceback


def test_a_duplicate_stays_in_its_batch(books: Books) -> None:
    first = once.enqueue(number=1)
    with Batch(name="import") as batch:
        assert batch.enqueue(once, number=1) == first
    assert batch.wait(0) and batch.progress["total"] == 0


def test_added_while_the_last_job_ends(books: Books, journal: Journal) -> None:
    """The batch is closed, its last job ends, and somebody's transaction is about to add one more:
    not done yet, and
    the ledger does not wait for that transaction."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(noop)
    added, may_commit = threading.Event(), threading.Event()

    def add_one() -> None:
        with transaction.atomic():
            Batch.get(batch.id).enqueue(noop)
            added.set()
            assert may_commit.wait(60)

    thread = in_thread(add_one)
    assert added.wait(60)
    work()
    books.fold()
    assert batch.state == "closed"
    may_commit.set()
    thread.join(60)
    run_all(books)
    assert batch.wait(0) and batch.progress["completed"] == 2 and calls(journal) == (1, 1)


def test_a_rolled_back_addition_delays_the_ledger_only_briefly(
    books: Books, journal: Journal
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(noop)
    added, may_end = threading.Event(), threading.Event()

    def add_one() -> None:
        with transaction.atomic():
            Batch.get(batch.id).enqueue(noop)
            added.set()
            assert may_end.wait(60)
            transaction.set_rollback(True)

    thread = in_thread(add_one)
    assert added.wait(60)
    work()
    books.fold()
    may_end.set()
    thread.join(60)
    assert batch.state == "closed"
    dependencies.heal("default")
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 1)


def test_rolled_back_with_its_callers_transaction(journal: Journal) -> None:
    with transaction.atomic():
        with Batch(name="import", **callbacks(journal)) as batch:
            batch.enqueue(noop)
        transaction.set_rollback(True)
    assert Row.objects.count() == JobRecord.objects.count() == 0
    assert Hand().claim() is None


def test_inside_its_callers_transaction(books: Books, journal: Journal) -> None:
    with transaction.atomic(), Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(noop)
        assert Hand().claim() is None
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 1)


# --- exactly once ---------------------------------------------------------------------------------


def test_last_two_jobs_finish_at_once_in_one_fold(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue_bulk(noop, [{}] * 2)
    first, second = Hand(name="first"), Hand(name="second")
    one, two = first.take(), second.take()
    first.run(one)
    second.run(two)
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 1)


def test_last_two_jobs_finish_at_once_in_two_ledgers(journal: Journal) -> None:
    """Two Redis servers, two ledgers, one database: each folds the end of one job while the other
    does."""
    books = Books()
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue_bulk(noop, [{}] * 2)
    hand = Hand()
    hand.run()
    hand.run()
    halves: dict[str, list[Any]] = {}
    for event in stream():
        halves.setdefault(event.job_id, []).append(event)
    gate = threading.Barrier(2)

    def fold(part: list[Any]) -> None:
        gate.wait(60)
        with transaction.atomic():
            folding = Projection("default", books.connection)
            folding.apply(part)
            folding.save()

    own = [
        halves[str(pk)]
        for pk in JobRecord.objects.filter(batch=batch.id).values_list("pk", flat=True)
    ]
    threads = [in_thread(lambda part=part: fold(part)) for part in own]
    for thread in threads:
        thread.join(60)
    dependencies.heal("default")
    assert batch.wait(0)
    run_all(books)
    assert calls(journal) == (1, 1)
    assert JobRecord.objects.filter(name="test-summary", attempts=1, state="completed").count() == 2


def test_owner_of_the_last_job_killed_while_holding(books: Books, journal: Journal) -> None:
    """Its rescue is no end: the batch waits for the next run."""
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(noop)
    hand = Hand()
    held = hand.take()
    claims.rescue(hand.connection, "crashed", "killed", worker=hand.name)
    books.fold()
    assert not hand.settle(held, Outcome("completed"))
    books.fold()
    assert batch.state == "closed" and batch.progress["open"] == 1
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 1)


def test_finishing_twice_runs_the_callbacks_once(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        handle = batch.enqueue(noop)
    run_all(books)
    for _ in range(3):
        with transaction.atomic():
            dependencies.release([handle.id], "default")
        dependencies.heal("default")
        batch.close()
    run_all(books)
    assert calls(journal) == (1, 1)


def test_a_lost_finish_is_healed(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        handle = batch.enqueue(noop)
    JobRecord.objects.filter(pk=handle.id).update(state="completed", finished_at=timezone.now())
    dependencies.heal("default")
    assert batch.wait(0)


# --- cancel and retry -----------------------------------------------------------------------------


def test_an_exception_in_the_block_cancels_it(books: Books, journal: Journal) -> None:
    with pytest.raises(KeyError), Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue_bulk(noop, [{}] * 3)
        raise KeyError("row 4")
    run_all(books)
    assert batch.wait(0) and batch.progress["canceled"] == 3
    assert calls(journal) == (1, 0)


def test_an_exception_before_the_first_job_is_no_success(books: Books, journal: Journal) -> None:
    with pytest.raises(KeyError), Batch(name="import", **callbacks(journal)) as batch:
        raise KeyError("no file")
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 0)


def test_with_redis_down_the_exception_of_the_block_is_raised(
    journal: Journal, use_redis: UseRedis, caplog: pytest.LogCaptureFixture
) -> None:
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(KeyError), Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(noop)
        raise KeyError("row 2")
    assert "stays open, because Redis is unavailable" in caplog.text and batch.state == "open"


def test_a_broken_transaction_in_the_block(journal: Journal) -> None:
    with (
        pytest.raises(KeyError),
        transaction.atomic(),
        Batch(name="import", **callbacks(journal)) as batch,
    ):
        batch.enqueue(noop)
        transaction.set_rollback(True)
        raise KeyError("row 2")
    assert Row.objects.count() == 0


def test_canceled_by_an_operator(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue_bulk(noop, [{}] * 3)
    Hand().run()
    assert operations.cancel_batch(batch.id, reason="wrong file") == 2
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 0)
    assert (batch.progress["completed"], batch.progress["canceled"]) == (1, 2)
    entry = AuditEntry.objects.get(target_type="batch")
    assert (entry.action, entry.target_id, entry.detail) == (
        "canceled",
        str(batch.id),
        {"name": "import", "jobs": 2},
    )
    with pytest.raises(errors.InvalidOperation, match="is done"):
        operations.cancel_batch(batch.id)


def test_failed_jobs_are_retried(books: Books, journal: Journal) -> None:
    """The success that was called off comes after all; who was told of the completion is not told
    again."""
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(noop)
        broken = batch.enqueue(fail)
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 0)
    JobRecord.objects.filter(pk=broken.id).update(name="test-noop", data={})
    assert [record.pk for record in operations.retry_batch(batch.id, reason="mended")] == [
        broken.id
    ]
    assert batch.state == "closed" and batch.progress["open"] == 1
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 1)
    assert (
        AuditEntry.objects.filter(target_type="batch", action="retried", reason="mended").count()
        == 1
    )
    with pytest.raises(errors.InvalidOperation, match="No job of batch"):
        operations.retry_batch(batch.id)


def test_a_replayed_dead_letter_of_a_batch(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue(fail)
    run_all(books)
    operations.replay(DeadLetter.objects.get())
    assert not batch.wait(0)
    run_all(books)
    assert batch.wait(0) and calls(journal) == (1, 0), "it failed again"


# --- circles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", ["on_complete", "on_success"])
def test_a_job_that_needs_its_own_batchs_callback_is_refused(callback: str) -> None:
    with Batch(name="import", on_complete=noop.with_data(), on_success=noop.with_data()) as batch:
        waits = getattr(Row.objects.get(), callback)
        with pytest.raises(
            errors.BadOption, match=f"'test-noop' belongs to batch 'import' and needs {waits.pk}"
        ):
            noop.using(batch=batch.id, depends_on=[waits]).enqueue()
    assert JobRecord.objects.count() == 2


def test_a_job_that_needs_it_through_others_is_refused() -> None:
    with Batch(name="import", on_complete=noop.with_data()) as batch:
        callback = Row.objects.get().on_complete
        after = noop.using(depends_on=[callback]).enqueue()
        later = noop.using(depends_on=[after, noop.enqueue()]).enqueue()
        with pytest.raises(errors.BadOption, match="each would wait for the other"):
            noop.using(batch=batch.id, depends_on=[later]).enqueue()
        assert JobRecord.objects.count() == 4


def test_a_job_may_need_another_batchs_callback_and_a_callback_that_has_run(books: Books) -> None:
    with Batch(name="first", on_complete=noop.with_data()) as first:
        first.enqueue(noop)
    callback = Row.objects.get().on_complete
    with Batch(name="second") as second:
        handle = noop.using(batch=second.id, depends_on=[callback]).enqueue()
    run_all(books)
    assert first.wait(0) and second.wait(0) and handle.state == "completed"


# --- cost -----------------------------------------------------------------------------------------


def jobs_of(batch: Batch | None, number: int, state: str) -> None:
    """Rows as enqueue and the ledger leave them, without a run for each."""
    made = {"name": "test-noop", "queue": "default", "state": state, "batch_id": batch and batch.id}
    JobRecord.objects.bulk_create(
        JobRecord(created_at=timezone.now(), **made) for _ in range(number)
    )


def plans(queries: list[dict[str, str]]) -> Iterator[str]:
    """How the database goes about each query on the jobs of a batch."""
    word = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    for query in queries:
        if re.search(r"FROM .*jobrecord.* WHERE .*batch_id\W* = ", query["sql"]):
            with connection.cursor() as cursor:
                cursor.execute(f"{word} {query['sql']}")
                yield str(cursor.fetchall())


@pytest.mark.system
def test_the_end_of_a_job_costs_the_same_in_a_large_batch(books: Books) -> None:
    """No job but those that ended is counted: one entry of an index tells that the batch is not
    done."""
    batches = {}
    for size in (10, 3_000):
        with Batch(name="import") as batch:
            ending = batch.enqueue(noop)
            jobs_of(batch, size, "completed")
            jobs_of(batch, size, "waiting")
        work()
        with CaptureQueriesContext(connection) as captured:
            books.fold()
        assert books.row(ending).state == "completed" and batch.state == "closed"
        batches[size] = captured.captured_queries
    few, many = batches.values()
    assert len(few) == len(many)
    assert not [query for query in many if "COUNT(" in query["sql"]]
    jobs_of(None, 10_000, "waiting")  # else every other waiting job is one of the batch
    refresh_statistics()
    found = list(plans(many))
    assert found and all("wellos_job_batch_state" in plan for plan in found), found


def refresh_statistics() -> None:
    """Let the database see how large its tables are: small ones it reads whole."""
    with connection.cursor() as cursor:
        table = JobRecord._meta.db_table
        cursor.execute(
            f"ANALYZE TABLE {table}" if connection.vendor == "mysql" else f"ANALYZE {table}"
        )


def test_counts_are_exact_when_a_fold_dies_and_when_a_job_is_replayed(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger ends before its commit, when the batch is already done in its transaction: it is
    folded again."""
    with Batch(name="import") as batch:
        batch.enqueue_bulk(noop, [{}] * 3)
        batch.enqueue(fail)
    work()
    release = dependencies.release

    def release_and_die(*arguments: Any) -> None:
        release(*arguments)
        assert batch.state == "done"
        raise OperationalError("the connection is gone")

    monkeypatch.setattr(dependencies, "release", release_and_die)
    with pytest.raises(OperationalError):
        books.fold()
    monkeypatch.undo()
    assert counters() == ("closed", 0, 0, 0, 0)
    Books().fold()
    assert counters() == ("done", 4, 3, 1, 0)
    operations.replay(DeadLetter.objects.get())
    assert batch.state == "closed"
    run_all(Books())
    assert counters() == ("done", 4, 3, 1, 0)
    JobRecord.objects.filter(state="failed").update(name="test-noop", data={})
    operations.retry_batch(batch.id)
    run_all(Books())
    assert counters() == ("done", 4, 4, 0, 0)


def counters() -> tuple[Any, ...]:
    return Row.objects.values_list("state", "total", "completed", "failed", "canceled").get()


# --- prune ----------------------------------------------------------------------------------------


def test_a_batch_is_pruned_with_its_jobs(books: Books, journal: Journal) -> None:
    with Batch(name="import", **callbacks(journal)) as batch:
        batch.enqueue_bulk(noop, [{}] * 2)
    old = timezone.now() - timedelta(days=181)
    Hand("default").run()
    books.fold()
    Row.objects.update(created_at=old)
    JobRecord.objects.filter(state="completed").update(finished_at=old)
    assert prune.prune("default")["completed"] == 0, "it is not done, and counts its jobs"
    assert batch.progress["total"] == 2
    run_all(books)
    assert batch.wait(0)
    prune.prune("default")
    assert Row.objects.count() == 1 and JobRecord.objects.count() == 3
    JobRecord.objects.update(finished_at=old)
    prune.prune("default")
    assert Row.objects.count() == JobRecord.objects.count() == 0
