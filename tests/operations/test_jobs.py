"""What people do to jobs and dead letters: on the real engine, with the audit entry each act
leaves."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import django_rq
import pytest
import redis
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import JobHandle, Priority, errors, operations
from wellos_jobs.broker import keys, queues
from wellos_jobs.definitions import ids
from wellos_jobs.enqueueing import control
from wellos_jobs.models import AuditEntry, DeadLetter, JobAttempt, JobRecord
from wellos_jobs.states import DeadLetterStatus, JobState

from .. import jobs
from ..conftest import UseRedis
from ..support.engine import Books, Hand, event_names, work
from ..support.servers import free_port

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("no_notices"),
]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


def failed(books: Books, **options: Any) -> JobRecord:
    """A job that failed for good, with its dead letter in the database."""
    handle = jobs.fail.using(**options).enqueue(message="the partner is away")
    work()
    record = books.row(handle)
    assert record.state == JobState.FAILED
    return record


def letter_of(record: JobRecord) -> DeadLetter:
    letter: DeadLetter = DeadLetter.objects.using(record._state.db).get(
        job=record, status=DeadLetterStatus.OPEN
    )
    return letter


def acts() -> list[AuditEntry]:
    """The operator actions, oldest first, without the failures that the ledger records."""
    return list(AuditEntry.objects.exclude(action="failed").order_by("pk"))


# --- replay and retry -----------------------------------------------------------------------------


def test_replay_runs_the_job_again_with_fresh_attempts(books: Books, ada: User) -> None:
    record = failed(books, run_at=timezone.now() - timedelta(hours=1), organization="acme")
    letter = letter_of(record)

    replayed = operations.replay(letter, by=ada, reason="the partner is back", address="10.0.0.7")

    assert (replayed.pk, replayed.state, replayed.attempts, replayed.replays) == (
        record.pk,
        "waiting",
        0,
        1,
    )
    assert (replayed.error, replayed.result, replayed.progress) == ("", None, 0)
    assert replayed.started_at is replayed.finished_at is replayed.run_at is None
    letter.refresh_from_db()
    assert letter.status == DeadLetterStatus.REPLAYED
    assert (letter.resolved_by, letter.note) == (ada, "the partner is back")
    assert letter.resolved_at is not None
    (act,) = acts()
    assert (act.action, act.actor, act.actor_name, act.address) == (
        "replayed",
        ada,
        "ada",
        "10.0.0.7",
    )
    assert (act.target_type, act.target_id, act.reason) == (
        "dead_letter",
        str(letter.pk),
        "the partner is back",
    )
    assert act.detail == {"job": str(record.pk), "name": "test-fail"}

    work()
    again = books.row(JobHandle(record.pk, record.queue))
    assert (again.state, again.attempts, again.replays) == (JobState.FAILED, 1, 1)
    assert event_names(JobHandle(record.pk, record.queue))[-3:] == ["replayed", "started", "failed"]


def test_replay_keeps_the_history(books: Books) -> None:
    record = failed(books)
    operations.replay(letter_of(record))
    work()
    books.fold()
    assert list(JobAttempt.objects.order_by("pk").values_list("replay", "number")) == [
        (0, 1),
        (1, 1),
    ]
    assert list(DeadLetter.objects.order_by("pk").values_list("status", flat=True)) == [
        "replayed",
        "open",
    ]


def test_a_dead_letter_is_replayed_once(books: Books) -> None:
    letter = letter_of(failed(books))
    operations.replay(letter)
    with pytest.raises(errors.InvalidOperation, match="is replayed already"):
        operations.replay(letter)
    assert len(acts()) == 1


def test_two_operators_replay_at_once(books: Books) -> None:
    letter = letter_of(failed(books))
    ready, outcomes = threading.Barrier(4), []

    def press() -> None:
        ready.wait()
        try:
            operations.replay(DeadLetter.objects.get(pk=letter.pk))
            outcomes.append("replayed")
        except errors.InvalidOperation:
            outcomes.append("refused")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["refused"] * 3 + ["replayed"]
    assert len(acts()) == 1
    assert JobRecord.objects.get().replays == 1
    assert queues.counts("default").waiting == 1


def test_a_rollback_undoes_a_replay(books: Books) -> None:
    record = failed(books)
    letter = letter_of(record)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        operations.replay(letter)
        raise ZeroDivisionError
    letter.refresh_from_db()
    record.refresh_from_db()
    assert (letter.status, record.state, record.replays) == ("open", "failed", 0)
    assert acts() == []
    assert queues.counts("default").waiting == 0


def test_replay_while_redis_is_away(books: Books, use_redis: UseRedis) -> None:
    """The row says waiting and was never pushed: that is what the relay looks for."""
    letter = letter_of(failed(books))
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    record = operations.replay(letter)
    assert (record.state, record.enqueued_at) == (JobState.WAITING, None)


def test_retry_replays_the_open_letter_of_a_failed_job(books: Books, ada: User) -> None:
    record = failed(books)
    letter = letter_of(record)
    assert operations.retry(record, by=ada, reason="again").state == JobState.WAITING
    letter.refresh_from_db()
    assert letter.status == DeadLetterStatus.REPLAYED
    (act,) = acts()
    assert (act.action, act.target_type, act.target_id) == ("retried", "job", str(record.pk))
    assert act.detail == {"name": "test-fail", "dead_letter": letter.pk}


def test_retry_of_a_failed_job_whose_letter_was_discarded(books: Books) -> None:
    record = failed(books)
    operations.discard(letter_of(record))
    assert operations.retry(record).replays == 1
    assert DeadLetter.objects.get().status == DeadLetterStatus.DISCARDED
    work()
    assert DeadLetter.objects.filter(status="open").count() == 0  # not folded yet
    books.fold()
    assert DeadLetter.objects.filter(status="open").count() == 1


def test_retry_runs_a_delayed_job_now(books: Books, ada: User) -> None:
    handle = jobs.noop.using(delay=3600).enqueue()
    record = books.row(handle)
    operations.retry(record, by=ada)
    assert queues.counts("default").waiting == 1
    work()
    assert books.row(handle).state == JobState.COMPLETED
    (act,) = acts()
    assert (act.action, act.detail) == ("retried", {"name": "test-noop", "promoted": True})


def test_retry_between_two_attempts(books: Books) -> None:
    handle = jobs.scripted.enqueue(steps=["before:2:retry:3600", "result:done"])
    work()
    assert books.row(handle).state == JobState.DELAYED
    operations.retry(handle.record())
    work()
    record = books.row(handle)
    assert (record.state, record.attempts, record.result) == (JobState.COMPLETED, 2, "done")


@pytest.mark.parametrize("state", ["waiting", "active", "blocked", "completed", "canceled"])
def test_retry_names_the_state_that_forbids_it(books: Books, state: str) -> None:
    record = failed(books)
    JobRecord.objects.update(state=state)
    with pytest.raises(
        errors.InvalidOperation, match=f"it is {state}, and only failed and delayed jobs can"
    ):
        operations.retry(record)
    assert acts() == []


def test_retry_of_a_job_that_is_no_longer_delayed(books: Books) -> None:
    handle = jobs.noop.using(delay=3600).enqueue()
    record = books.row(handle)
    assert control.promote(record)
    with pytest.raises(errors.InvalidOperation, match="no longer delayed"):
        operations.retry(record)
    assert acts() == []


def test_a_plain_rq_job_cannot_be_retried(books: Books) -> None:
    django_rq.get_queue("default").enqueue(jobs.foreign_fail)
    work()
    books.fold()
    record = JobRecord.objects.get()
    assert (record.state, record.is_foreign) == (JobState.FAILED, True)
    for act in (lambda: operations.retry(record), lambda: operations.replay(letter_of(record))):
        with pytest.raises(errors.InvalidOperation, match="plain RQ code"):
            act()
    assert acts() == []
    operations.discard(letter_of(record))


def test_the_audit_entry_is_in_the_database_of_the_job() -> None:
    handle = jobs.fail.using(database="other").enqueue()
    work()
    record = Books("other").row(handle)
    operations.replay(letter_of(record), reason="there")
    assert JobRecord.objects.using("other").get().state == JobState.WAITING
    assert AuditEntry.objects.using("other").filter(action="replayed").count() == 1
    assert AuditEntry.objects.count() == JobRecord.objects.count() == 0


# --- discard and cancel ---------------------------------------------------------------------------


def test_discard_closes_the_dead_letter_and_the_job_stays_failed(books: Books, ada: User) -> None:
    record = failed(books)
    letter = letter_of(record)
    operations.discard(letter, by=ada, reason="customer is gone")
    letter.refresh_from_db()
    record.refresh_from_db()
    assert (letter.status, letter.resolved_by, letter.note) == (
        "discarded",
        ada,
        "customer is gone",
    )
    assert record.state == JobState.FAILED
    (act,) = acts()
    assert (act.action, act.target_type, act.target_id) == (
        "discarded",
        "dead_letter",
        str(letter.pk),
    )
    with pytest.raises(errors.InvalidOperation, match="is discarded already"):
        operations.discard(letter)
    with pytest.raises(errors.InvalidOperation, match="is discarded already"):
        operations.replay(letter)


def test_cancel_of_a_waiting_job(books: Books, ada: User) -> None:
    handle = jobs.noop.enqueue()
    assert (
        operations.cancel(handle.record(), by=ada, reason="too late", address="::1") == "canceled"
    )
    work()
    assert books.row(handle).state == JobState.CANCELED
    (act,) = acts()
    assert (act.action, act.target_id, act.reason, act.address) == (
        "canceled",
        str(handle),
        "too late",
        "::1",
    )


def test_a_job_may_be_given_as_its_handle(books: Books, ada: User) -> None:
    moved, promoted, canceled = (jobs.noop.using(delay=3600).enqueue() for _ in range(3))
    operations.change_priority(moved, Priority.HIGH, by=ada)
    operations.move(moved, "email", by=ada)
    operations.retry(moved, by=ada)
    operations.promote(promoted, by=ada)
    assert operations.cancel(canceled, by=ada) == "canceled"
    work("default", "email")
    assert [books.row(handle).state for handle in (moved, promoted, canceled)] == [
        "completed",
        "completed",
        "canceled",
    ]
    assert (books.row(moved).queue, books.row(moved).priority) == ("email", Priority.HIGH)
    done = ["changed priority", "moved", "retried", "promoted", "canceled"]
    assert [act.action for act in AuditEntry.objects.filter(actor=ada).order_by("pk")] == done
    with pytest.raises(errors.JobNotFound):
        operations.cancel(JobHandle(ids.new_id(), "default"))


def test_cancel_of_a_job_unknown_to_redis(books: Books, use_redis: UseRedis) -> None:
    handle = JobHandle(ids.new_id(), "default")
    with transaction.atomic():
        handle = jobs.noop.enqueue()
        assert operations.cancel(handle.record()) == "canceled"
    assert work().jobs_done == 0
    assert books.row(handle).state == JobState.CANCELED


def test_cancel_of_an_active_job_asks_its_supervisor(books: Books) -> None:
    handle = jobs.noop.enqueue()
    Hand().take()
    assert operations.cancel(handle.record()) == "stopping"
    assert [act.action for act in acts()] == ["canceled"]


@pytest.mark.parametrize("folded", [True, False])
def test_cancel_of_a_final_job(books: Books, folded: bool) -> None:
    handle = jobs.noop.enqueue()
    work()
    if folded:
        books.fold()
    with pytest.raises(errors.InvalidOperation, match="cannot be canceled"):
        operations.cancel(handle.record())
    assert acts() == []


def test_cancel_while_redis_is_away_changes_nothing(use_redis: UseRedis) -> None:
    handle = jobs.noop.enqueue()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(errors.RedisUnavailable, match="nothing was changed"):
        operations.cancel(handle.record())
    assert acts() == []


def test_cancel_of_a_job_whose_hash_is_corrupt(books: Books, redis_client: redis.Redis) -> None:
    handle = jobs.noop.enqueue()
    redis_client.delete(keys.job(handle.id))
    redis_client.lpush(keys.job(handle.id), "what?")
    operations.cancel(handle.record())
    work()
    books.fold()
    assert handle.record().state == JobState.CANCELED
    assert [entry.action for entry in acts()] == ["canceled"]


def test_cancel_when_redis_refuses(redis_client: redis.Redis) -> None:
    handle = jobs.noop.using(delay=60).enqueue()
    redis_client.delete(keys.DUE)
    redis_client.lpush(keys.DUE, "what?")
    with pytest.raises(errors.RedisUnavailable, match="Redis refused"):
        operations.cancel(handle.record())
    assert acts() == []


# --- many -----------------------------------------------------------------------------------------


def test_retry_many_reports_what_it_refused(books: Books, ada: User) -> None:
    broken = [failed(books).pk for _ in range(3)]
    delayed = jobs.noop.using(delay=3600).enqueue()
    waiting = jobs.noop.using(priority=Priority.LOW).enqueue()
    books.fold()

    report = operations.retry_many(JobRecord.objects.all(), by=ada, reason="all of them")

    assert report.done == 4
    assert report.refused == [
        f"test-noop {waiting} cannot be retried: "
        "it is waiting, and only failed and delayed jobs can"
    ]
    assert set(JobRecord.objects.filter(replays=1).values_list("pk", flat=True)) == set(broken)
    assert [act.reason for act in acts()] == ["all of them"] * 4
    assert {act.target_id for act in acts()} == {str(pk) for pk in [*broken, delayed.id]}
    assert queues.counts("default").waiting == 5


def test_replay_many_takes_lists_and_counts_closed_letters(books: Books) -> None:
    letters = [letter_of(failed(books)) for _ in range(3)]
    operations.discard(letters[0])
    report = operations.replay_many(letters)
    assert (report.done, report.refused) == (
        2,
        [f"Dead letter {letters[0].pk} is discarded already"],
    )
    assert operations.replay_many([]).done == 0


def test_discard_many(books: Books) -> None:
    letters = [letter_of(failed(books)) for _ in range(2)]
    operations.replay(letters[0])
    report = operations.discard_many(DeadLetter.objects.all())
    assert (report.done, report.refused) == (
        1,
        [f"Dead letter {letters[0].pk} is replayed already"],
    )


def test_cancel_many(books: Books) -> None:
    handles = jobs.noop.enqueue_bulk([{}] * 3)
    work("default", max_jobs=1)
    books.fold()
    report = operations.cancel_many(JobRecord.objects.all(), reason="stop")
    assert report.done == 2
    assert len(report.refused) == 1
    assert "completed already" in report.refused[0]
    assert len(handles) == 3


def test_many_when_redis_refuses_one(redis_client: redis.Redis) -> None:
    handles = [*jobs.noop.enqueue_bulk([{}] * 2), jobs.noop.using(delay=60).enqueue()]
    redis_client.delete(keys.DUE)
    redis_client.lpush(keys.DUE, "what?")
    report = operations.cancel_many([handle.record() for handle in handles])
    assert report.done == 2
    assert [text.partition(":")[0] for text in report.refused] == ["Redis refused"]


def test_many_while_redis_is_down(books: Books, use_redis: UseRedis) -> None:
    jobs.noop.using(delay=60).enqueue_bulk([{}] * 3)
    failed(books)
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    for operation, done in ((operations.retry_many, 1), (operations.cancel_many, 0)):
        report = operation(JobRecord.objects.all())
        assert (report.done, report.refused, len(report.untried)) == (done, [], 4 - done)
        assert report.messages == [f"Redis is unavailable: {4 - done} were not tried"]


def test_replaying_many_costs_a_few_queries_a_chunk(books: Books, round_trips: Any) -> None:
    jobs.fail.enqueue_bulk([{}] * 30)
    work()
    books.fold()
    with CaptureQueriesContext(connections["default"]) as captured, round_trips.counting() as trips:
        assert operations.replay_many(DeadLetter.objects.all()).done == 30
    assert len(captured) <= 12, [query["sql"][:80] for query in captured]
    assert len(trips) == 1
    assert AuditEntry.objects.filter(action="replayed").count() == 30
