"""The ledger applies each event to the rows once and in order, in one database or several."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.db import DataError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from wellos_jobs import JobHandle, JobState, enqueue, operations
from wellos_jobs import broker as wellos_redis
from wellos_jobs.broker import events, keys
from wellos_jobs.broker.claims import Claim, Outcome, rescue
from wellos_jobs.broker.events import NOT_STORED
from wellos_jobs.enqueueing import control
from wellos_jobs.enqueueing.push import push
from wellos_jobs.ledger import ledger
from wellos_jobs.ledger.ledger import Ledger, NewEpoch, Overtaken
from wellos_jobs.ledger.projection import Projection
from wellos_jobs.maintenance.housekeeping import Housekeeping
from wellos_jobs.models import AuditEntry, DeadLetter, JobAttempt, JobRecord, LedgerCursor
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.signals import dead_letter_created
from wellos_jobs.worker.progress import Reporter

from ..jobs import add, fail, noop, scripted
from ..support.engine import EPOCH, Books, Hand, listening, stream, work
from ..support.rows import attempts, row, statistics

BOTH = ["default", "other"]
pytestmark = pytest.mark.django_db(databases=BOTH)


@pytest.fixture
def commit(django_capture_on_commit_callbacks: Any) -> Callable[..., Any]:
    return lambda using="default": django_capture_on_commit_callbacks(using=using, execute=True)


@pytest.fixture
def hand() -> Hand:
    return Hand(name="w-1")


Commit = Callable[..., Any]


def near(moment: datetime | None, seconds: float = 0.0) -> bool:
    return moment is not None and abs(
        moment - datetime.now(UTC) - timedelta(seconds=seconds)
    ) < timedelta(seconds=5)


# --- what each event does -------------------------------------------------------------------------


def test_enqueued(books: Books, commit: Commit) -> None:
    with commit():
        now, later = noop.enqueue(), noop.using(delay=60).enqueue()
    assert row(now).enqueued_at is None
    assert books.row(now).state == JobState.WAITING and near(row(now).enqueued_at)
    assert books.row(later).state == JobState.DELAYED and near(row(later).run_at, 60)
    assert statistics("test-noop") == {"enqueued": 2}
    control.promote(row(later))
    assert books.row(later).state == JobState.WAITING
    assert statistics("test-noop") == {"enqueued": 2}  # it came once


def test_started(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = noop.enqueue()
    hand.take()
    started = books.row(handle)
    assert (started.state, started.attempts, started.worker) == (JobState.ACTIVE, 1, "w-1")
    assert near(started.started_at) and started.finished_at is None
    assert statistics("test-noop") == {"enqueued": 1, "started": 1}


def test_progressed(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = noop.enqueue()
    Reporter(hand.claimer, hand.take())(33, "a third", False)
    assert (books.row(handle).progress, row(handle).progress_message) == (33, "a third")


def test_completed(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = add.enqueue(2, b=3)
    hand.run()
    done = books.row(handle)
    assert (done.state, done.result, done.progress, done.error) == (JobState.COMPLETED, 5, 100, "")
    assert near(done.finished_at) and attempts(handle) == []
    assert not DeadLetter.objects.exists() and not AuditEntry.objects.exists()


def test_a_result_of_none_is_sql_null(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = noop.enqueue()
    hand.run()
    books.fold()
    assert JobRecord.objects.filter(pk=handle.id, result__isnull=True).exists()


def test_retried(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = scripted.enqueue(
            steps=["on:1:status:503:40", "on:2:raise:ValueError:second", "result:ok"]
        )
    hand.run()
    delayed = books.row(handle)
    assert (delayed.state, delayed.attempts, delayed.error) == (JobState.DELAYED, 1, "HTTP 503")
    assert near(delayed.run_at, 40) and delayed.finished_at is None

    [attempt] = JobAttempt.objects.filter(job_id=handle.id)
    assert (attempt.number, attempt.outcome, attempt.worker, attempt.replay) == (
        1,
        "retried",
        "w-1",
        0,
    )
    assert (attempt.error_class, attempt.message) == ("tests.jobs.HttpError", "HTTP 503")
    assert "_status" in attempt.traceback and near(attempt.started_at) and near(attempt.ended_at)

    control.promote(row(handle))
    hand.run()
    control.promote(books.row(handle))
    hand.run()
    done = books.row(handle)
    assert (done.state, done.attempts, done.error) == (JobState.COMPLETED, 3, "")
    assert attempts(handle) == [(1, "retried"), (2, "retried")]
    assert statistics() == {"enqueued": 1, "started": 3, "retried": 2, "completed": 1}


def test_a_retried_timeout_says_so(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = scripted.using(timeout=0.05).enqueue(steps=["sleep:20"])
    hand.run()
    assert books.row(handle).state == JobState.DELAYED
    assert attempts(handle) == [(1, "timeout")]


def test_snoozed(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = scripted.enqueue(steps=["snooze:50"])
    hand.run()
    delayed = books.row(handle)
    assert (delayed.state, delayed.attempts, delayed.error) == (JobState.DELAYED, 0, "")
    assert near(delayed.run_at, 50) and attempts(handle) == []


def test_handed_back(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = noop.enqueue()
    hand.settle(hand.take(), Outcome("handed_back", message="the worker stops"))
    back = books.row(handle)
    assert (back.state, back.attempts, back.progress_message) == (
        JobState.WAITING,
        0,
        "the worker stops",
    )
    assert attempts(handle) == []


def test_failed(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = fail.enqueue("no luck")
    hand.run()
    with listening(dead_letter_created) as heard:
        failed = books.row(handle)
    assert (failed.state, failed.attempts, failed.error) == (JobState.FAILED, 1, "no luck")
    assert near(failed.finished_at) and attempts(handle) == [(1, "failed")]

    letter = DeadLetter.objects.get(job=failed)
    assert (letter.reason, letter.status, letter.error_class, letter.message) == (
        *("exhausted", "open", "ValueError", "no luck"),
    )
    assert (
        "in fail" in letter.traceback and len(letter.fingerprint) == 16 and near(letter.created_at)
    )
    assert [one["dead_letter"] for one in heard] == [letter]

    entry = AuditEntry.objects.get(action="failed")
    assert (entry.target_type, entry.target_id, entry.actor) == ("job", str(handle), None)
    assert entry.detail == {
        "name": "test-fail",
        "error": "no luck",
        "attempts": 1,
        "failed_at": entry.at.isoformat(),
    }
    assert statistics("test-fail") == {"enqueued": 1, "started": 1, "failed": 1}


@pytest.mark.parametrize(
    ("steps", "options", "reason", "outcome"),
    [
        (["status:404"], {}, "not_retryable", "failed"),
        (["sleep:20"], {"timeout": 0.05, "max_attempts": 1}, "timeout", "timeout"),
        (["discard:no"], {}, "not_retryable", "failed"),
    ],
)
def test_the_reason_of_a_dead_letter(
    books: Books,
    hand: Hand,
    commit: Commit,
    steps: list[str],
    options: dict[str, Any],
    reason: str,
    outcome: str,
) -> None:
    with commit():
        handle = scripted.using(**options).enqueue(steps=steps)
    hand.run()
    assert DeadLetter.objects.get(job=books.row(handle)).reason == reason
    assert attempts(handle) == [(1, outcome)]


def test_an_unknown_job_is_the_reason_of_its_dead_letter(
    books: Books, hand: Hand, commit: Commit, settings: Any
) -> None:
    with commit():
        handle = enqueue("nobody-knows", {})
    hand.run()
    assert books.row(handle).state == JobState.WAITING
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "UNKNOWN_JOB_WAIT": 1e-6}
    hand.bury()  # from now on the queue is served
    hand.bury()
    assert DeadLetter.objects.get(job=books.row(handle)).reason == "unknown_job"


def test_rescued_and_crashed(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = noop.using(max_attempts=2).enqueue()
    hand.take()
    rescue(hand.connection, "crashed", "worker w-1 died (signal 9)", worker="w-1")
    waiting = books.row(handle)
    assert (waiting.state, waiting.attempts, waiting.error) == (
        JobState.WAITING,
        1,
        "worker w-1 died (signal 9)",
    )

    hand.take()
    rescue(hand.connection, "timeout", "it hung", worker="w-1")
    failed = books.row(handle)
    assert (failed.state, failed.error) == (JobState.FAILED, "it hung")
    assert attempts(handle) == [(1, "crashed"), (2, "timeout")]
    assert DeadLetter.objects.get(job=failed).reason == "timeout"
    assert statistics("test-noop") == {"enqueued": 1, "started": 2, "rescued": 1, "failed": 1}


def test_canceled(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        waiting, running = noop.enqueue(), noop.enqueue()
    waiting.cancel()
    hand.settle(hand.take(), Outcome("canceled"))
    assert books.row(waiting).state == books.row(running).state == JobState.CANCELED
    assert near(row(waiting).finished_at)
    assert (attempts(waiting), attempts(running)) == ([], [(1, "canceled")])
    assert statistics("test-noop") == {"enqueued": 2, "started": 1, "canceled": 2}


def test_replayed(books: Books, hand: Hand, commit: Commit) -> None:
    with commit():
        handle = fail.enqueue("no luck")
    hand.run()
    books.fold()
    with commit():
        operations.retry(row(handle))
    fresh = books.row(handle)
    assert (fresh.state, fresh.attempts, fresh.error, fresh.replays) == (JobState.WAITING, 0, "", 1)

    hand.run()
    again = books.row(handle)
    assert (again.state, again.attempts) == (JobState.FAILED, 1)
    assert list(JobAttempt.objects.filter(job=again).values_list("replay", "number")) == [
        (0, 1),
        (1, 1),
    ]
    assert list(
        DeadLetter.objects.filter(job=again).order_by("pk").values_list("status", flat=True)
    ) == [
        "replayed",
        "open",
    ]
    assert statistics("test-fail")["enqueued"] == 1


def test_an_event_from_before_a_replay_does_not_change_the_row(
    books: Books, hand: Hand, commit: Commit
) -> None:
    with commit():
        handle = fail.enqueue("first life")
    hand.run()
    JobRecord.objects.filter(pk=handle.id).update(
        replays=1, error="", attempts=0
    )  # as if replayed meanwhile
    with commit():
        push([row(handle)])
    fresh = books.row(handle)
    assert (fresh.state, fresh.attempts, fresh.error) == (JobState.WAITING, 0, "")
    assert attempts(handle) == [(1, "failed")]
    assert DeadLetter.objects.filter(job=fresh).count() == 1


def test_the_tombstone_of_a_job_canceled_before_its_push(books: Books) -> None:
    handle = noop.enqueue()
    handle.cancel()
    assert books.row(handle).state == JobState.CANCELED
    push([row(handle)])
    assert books.row(handle).state == JobState.CANCELED
    assert statistics("test-noop") == {"canceled": 1}


# --- order, once ----------------------------------------------------------------------------------


def everything(commit: Commit) -> list[JobHandle]:
    """Make each kind of event happen; return the jobs."""
    hand = Hand("default", name="w-9")
    with commit():
        handles = [
            scripted.enqueue(steps=["progress:10:a", "result:x"]),
            scripted.enqueue(steps=["on:1:raise:ValueError:a", "on:2:snooze:100"]),
            scripted.enqueue(steps=["discard:no"]),
            noop.using(delay=100).enqueue(),
            noop.enqueue(),
        ]
    for _ in range(4):
        hand.run()
    control.promote(row(handles[1]))
    hand.run()
    handles[3].cancel()
    return handles


def picture() -> list[Any]:
    """Return everything in the rows that does not depend on the moment."""
    columns = (
        "pk",
        "state",
        "attempts",
        "progress",
        "progress_message",
        "result",
        "error",
        "worker",
        "enqueued_at",
    )
    columns += ("started_at", "finished_at", "run_at")
    return [
        *JobRecord.objects.filter(name__startswith="test-").order_by("pk").values_list(*columns),
        *JobAttempt.objects.order_by("pk").values_list("job_id", "number", "outcome", "ended_at"),
        *DeadLetter.objects.order_by("pk").values_list("job_id", "reason", "created_at"),
        statistics("test-scripted"),
        statistics("test-noop"),
    ]


def test_batches_of_any_size_give_the_same_rows(
    commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(commit)
    pictures = []
    for size in (1, 2, 7, 1_000):
        monkeypatch.setattr(ledger, "BATCH", size)
        with transaction.atomic():
            Books().fold()
            pictures.append(picture())
            transaction.set_rollback(True)
    assert pictures[0] == pictures[1] == pictures[2] == pictures[3]
    assert len(stream()) > 10


def test_reopening_a_ledger_counts_nothing_twice(commit: Commit, books: Books) -> None:
    everything(commit)
    folded = books.fold()
    before = picture()
    again = Books()  # another process, or this one after a crash before the trim
    assert again.fold() == 0
    assert again.ledger.position == books.ledger.position == stream()[folded - 1].position
    assert picture() == before


def test_a_rolled_back_transaction_is_repeated(
    commit: Commit, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    handles = everything(commit)
    before = picture()
    monkeypatch.setattr(
        AuditEntry.objects, "using", lambda alias: (_ for _ in ()).throw(OperationalError("away"))
    )
    with pytest.raises(OperationalError):
        books.fold()
    assert picture() == before
    assert LedgerCursor.objects.get().position == events.START
    monkeypatch.undo()
    assert books.fold() == len(stream())
    assert row(handles[0]).state == JobState.COMPLETED


def test_of_two_concurrent_ledgers_one_rolls_back(commit: Commit) -> None:
    one, other = Books(), Books()
    everything(commit)
    one.fold()
    before = picture()
    with pytest.raises(Overtaken):
        other.fold()
    assert picture() == before

    other.ledger.open(EPOCH)
    assert other.fold() == 0

    with commit():
        handle = noop.enqueue()
    assert other.row(handle).state == JobState.WAITING
    with pytest.raises(Overtaken):
        one.fold()


def test_an_emptied_redis_is_detected(
    commit: Commit, redis_client: redis.Redis, books: Books
) -> None:
    everything(commit)
    books.fold()
    redis_client.flushall()
    redis_client.set(keys.EPOCH, "another")
    with pytest.raises(NewEpoch):
        books.ledger.drain()
    books.ledger.open("another")
    assert books.ledger.position == events.START
    with commit():
        handle = noop.enqueue()
    assert books.row(handle).state == JobState.WAITING


def test_events_of_deleted_rows_are_skipped(
    commit: Commit, books: Books, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    with commit():
        gone, kept = noop.enqueue(), noop.enqueue()
    hand.run()
    hand.run()
    JobRecord.objects.filter(pk=gone.id).delete()
    assert books.row(kept).state == JobState.COMPLETED
    assert not JobRecord.objects.filter(pk=gone.id).exists()
    assert f"event enqueued of job={gone} has no row in default" in caplog.text


def test_an_ended_job_whose_row_was_deleted_expires_in_redis(
    commit: Commit, books: Books, hand: Hand, redis_client: redis.Redis
) -> None:
    with commit():
        gone = noop.enqueue()
    JobRecord.objects.filter(pk=gone.id).delete()
    hand.run()
    books.fold()
    assert 0 < redis_client.ttl(keys.job(gone)) <= ledger.FORGET_ROWLESS_AFTER
    assert redis_client.zscore(keys.finished("default"), str(gone)) < keys.FAR


def test_a_tombstone_outlives_the_transaction_of_its_job(
    books: Books, redis_client: redis.Redis
) -> None:
    """Its event may be folded while the row cannot be seen yet; the row's push must still find
    it."""
    handle = noop.enqueue()
    record = row(handle)
    JobRecord.objects.filter(pk=handle.id).delete()
    assert control.cancel(record) == "canceled"
    before = redis_client.ttl(keys.job(handle))
    books.fold()
    assert before > 3600 and redis_client.ttl(keys.job(handle)) == pytest.approx(before, abs=5)


def test_after_a_refused_statement_batches_are_smaller(commit: Commit, books: Books) -> None:
    """MariaDB hangs up on what is above its ``max_allowed_packet``: a few hundred jobs with much
    data are."""

    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("INSERT") and len(str(params)) > 20_000:
            raise OperationalError(2006, "MySQL server has gone away")
        return execute(sql, params, many, context)

    with commit():
        handles = [enqueue("test-echo", {"value": "x" * 1_000}) for _ in range(70)]
    refusals = 0
    with connection.execute_wrapper(refuse):
        while not books.ledger.at_end:
            try:
                with transaction.atomic():  # the test's own transaction has to live on
                    books.ledger.drain()
            except OperationalError:
                refusals += 1
                assert refusals < 10
                books.ledger.open(EPOCH)
    assert refusals > 0
    assert not JobRecord.objects.filter(enqueued_at=None).exists()
    assert JobRecord.objects.count() == len(handles)


def test_only_the_event_that_a_database_rejects_is_skipped(
    commit: Commit,
    books: Books,
    hand: Hand,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with commit():
        handles = [noop.enqueue() for _ in range(7)]
    poison = handles[3]
    plain = Projection.save

    def save(projection: Projection) -> None:
        if poison.id in projection.changed:
            raise DataError("value out of range")
        plain(projection)

    monkeypatch.setattr(Projection, "save", save)
    books.fold()
    states = [row(handle).enqueued_at is not None for handle in handles]
    assert states == [True, True, True, False, True, True, True]
    assert f"event enqueued of job={poison} cannot be applied: skipped" in caplog.text
    assert LedgerCursor.objects.get().position == stream()[-1].position


EMOJI = "\N{PARTY POPPER}"
REFUSALS = [
    DataError("incorrect string value"),
    OperationalError(1366, "Incorrect string value"),  # as mysqlclient says it
]


def _refuse_emojis(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the ledger's writes fail as those to utf8mb3 columns do."""
    plain = Projection.save

    def save(projection: Projection) -> None:
        columns = ("error", "result", "progress_message")
        texts = [getattr(row, name) for row in projection.changed.values() for name in columns]
        for made in (projection.attempts, projection.letters, projection.audit, projection.logs):
            texts += [vars(one) for one in made]
        if EMOJI in repr(texts):
            raise error
        plain(projection)

    monkeypatch.setattr(Projection, "save", save)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_an_end_whose_texts_the_database_refuses_is_applied_without_them(
    commit: Commit, books: Books, hand: Hand, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _refuse_emojis(monkeypatch, error)
    with commit():
        fails = fail.enqueue(f"no luck {EMOJI}")
        retries = scripted.enqueue(steps=[f"on:1:raise:ValueError:{EMOJI}", "result:ok"])
        works = scripted.enqueue(steps=[f"log:{EMOJI}", f"result:{EMOJI}"])
        other = add.enqueue(2)
    for _ in range(4):
        hand.run()
    books.fold()

    states = [row(handle).state for handle in (fails, retries, works, other)]
    assert states == ["failed", "delayed", "completed", "completed"]
    letter = DeadLetter.objects.get()
    assert letter.job_id == fails.id
    assert (letter.reason, letter.message) == ("exhausted", NOT_STORED)
    assert near(row(retries).run_at, 2) and row(retries).error == NOT_STORED
    assert (row(works).result, row(other).result) == (None, 3)
    assert LedgerCursor.objects.get().position == stream()[-1].position


def test_an_end_that_cannot_be_applied_at_all_still_ends_the_row(
    commit: Commit, books: Books, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    with commit():
        handles = [fail.enqueue("no"), add.enqueue(1), add.enqueue(2)]
    plain = Projection.save

    def save(projection: Projection) -> None:
        for job in projection.changed.values():
            if job.finished_at is not None and job.pk != handles[2].id:
                raise LookupError("a receiver of the project fails")
        plain(projection)

    monkeypatch.setattr(Projection, "save", save)
    for _ in handles:
        hand.run()
    books.fold()
    assert [row(handle).state for handle in handles] == ["failed", "completed", "completed"]
    assert [row(handle).error for handle in handles] == [NOT_STORED, NOT_STORED, ""]
    assert all(near(row(handle).finished_at) for handle in handles)


@pytest.mark.parametrize(
    "change", [{"e": "invented"}, {"d": "{no json"}, {"a": "many"}, {"g": None}]
)
def test_an_event_that_cannot_be_read_does_not_stop_the_ledger(
    commit: Commit,
    books: Books,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, Any],
) -> None:
    """As one that a later version wrote, before people went back to this one."""
    with commit():
        before = noop.enqueue()
    [(_, fields)] = redis_client.xrange(keys.EVENTS)
    told = {key.decode(): value for key, value in fields.items()} | change
    place = redis_client.xadd(
        keys.EVENTS, {key: value for key, value in told.items() if value is not None}
    )
    with commit():
        after = noop.enqueue()
    assert books.fold() == 3
    assert row(before).enqueued_at is not None and row(after).enqueued_at is not None
    assert f"event {place.decode()} cannot be read and is skipped" in caplog.text


# --- several databases ----------------------------------------------------------------------------


def test_each_database_applies_its_own_events_only(commit: Commit) -> None:
    mine, theirs = Books("default"), Books("other")
    with commit("other"), commit():
        here = noop.enqueue()
        there = noop.using(database="other").enqueue()
    work("default")
    assert mine.fold() == theirs.fold() == len(stream())
    assert row(here).state == row(there).state == JobState.COMPLETED
    assert JobRecord.objects.using("other").count() == JobRecord.objects.count() == 1
    assert (
        statistics("test-noop", "other")
        == statistics("test-noop")
        == {"enqueued": 1, "started": 1, "completed": 1}
    )


def test_dead_letters_attempts_and_audit_stay_in_the_job_s_database(
    commit: Commit, hand: Hand
) -> None:
    with commit("other"):
        handle = fail.using(database="other").enqueue()
    hand.run()
    Books("other").fold()
    for model in (DeadLetter, JobAttempt, AuditEntry):
        assert model.objects.using("other").exists() and not model.objects.exists()
    assert row(handle).state == JobState.FAILED


# --- what Redis may forget, and when --------------------------------------------------------------


def test_ended_jobs_get_a_time_to_live_after_the_commit(
    commit: Commit, books: Books, hand: Hand, redis_client: redis.Redis
) -> None:
    with commit():
        handles = [noop.enqueue(), fail.enqueue(), noop.enqueue(), noop.enqueue()]
    handles[2].cancel()
    hand.run()
    hand.run()
    hashes = [keys.job(handle) for handle in handles]
    registries = [keys.finished("default"), keys.failed("default"), keys.canceled("default")]
    assert [redis_client.ttl(key) for key in hashes] == [-1] * 4
    assert all(
        redis_client.zrange(key, 0, -1, withscores=True)[0][1] == keys.FAR for key in registries
    )

    books.fold()
    assert [0 < redis_client.ttl(key) <= 60 for key in hashes] == [True, True, True, False]

    seconds, _ = redis_client.time()
    for registry in registries:
        [(_, score)] = redis_client.zrange(registry, 0, -1, withscores=True)
        assert 55 < score - seconds < 65


def test_a_replayed_job_does_not_expire(
    commit: Commit, books: Books, hand: Hand, redis_client: redis.Redis
) -> None:
    with commit():
        handle = fail.enqueue()
    hand.run()
    books.fold()
    with commit():
        operations.retry(row(handle))
    wellos_redis.run(redis_client, "forget", 60, str(handle))  # a ledger that was slow to forget
    assert redis_client.ttl(keys.job(handle)) == -1


def test_the_stream_is_trimmed_up_to_the_slowest_database(
    commit: Commit, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    from django.db import OperationalError

    from wellos_jobs.maintenance import per_database

    keeping = Housekeeping("default", Slot())
    monkeypatch.setattr(keeping, "_wait", lambda: None)
    keeping.round()
    with commit("other"), commit():
        noop.enqueue()
        noop.using(database="other").enqueue()
    away = next(one for one in keeping.databases if one.database == "other")
    monkeypatch.setattr(
        away.ledger, "drain", lambda: (_ for _ in ()).throw(OperationalError("away"))
    )
    monkeypatch.setattr(per_database.connections["other"], "close", lambda: None)
    keeping.round()
    assert JobRecord.objects.get().enqueued_at is not None
    assert redis_client.xlen(keys.EVENTS) == 2  # the other database holds them
    monkeypatch.undo()
    away._not_before = 0.0
    monkeypatch.setattr(keeping, "_wait", lambda: None)
    keeping.round()
    assert JobRecord.objects.using("other").get().enqueued_at is not None
    assert redis_client.xlen(keys.EVENTS) == 0


def test_applied_events_are_trimmed_without_new_events(
    commit: Commit, books: Books, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    """A leader died between its commit and that. Health would take the events for ones that the
    ledger cannot fold."""
    with commit():
        noop.enqueue()
    books.fold()
    assert redis_client.xlen(keys.EVENTS) == 1
    monkeypatch.setattr("wellos_jobs.maintenance.housekeeping.job_databases", lambda: ["default"])
    keeping = Housekeeping("default", Slot())
    monkeypatch.setattr(keeping, "_wait", lambda: None)
    keeping.round()
    assert redis_client.xlen(keys.EVENTS) == 0


# --- costs ----------------------------------------------------------------------------------------


def test_a_batch_takes_a_handful_of_statements(commit: Commit, books: Books) -> None:
    with commit():
        noop.enqueue_bulk([{}] * 100)
    work("default")
    assert len(stream()) == 300
    with CaptureQueriesContext(connection) as queries:
        books.fold()
    assert len(queries) <= 18  # SQLite takes the rows in portions


# --- events ---------------------------------------------------------------------------------------


def test_positions_compare_as_numbers() -> None:
    assert events.earliest(["10-0", "9-1", "9-0"]) == "9-0"
    assert events.order("10-2") > events.order("9-11")


def test_the_stream_is_read_waited_for_and_trimmed(
    commit: Commit, redis_client: redis.Redis
) -> None:
    Books()
    assert events.wait(redis_client, events.START, 0.01) is False
    assert events.backlog(redis_client) == 0
    with commit():
        noop.enqueue_bulk([{}] * 5)
    assert events.wait(redis_client, events.START, 5) is True
    epoch, first = events.read(redis_client, events.START, 2)
    assert (epoch, len(first)) == (EPOCH, 2)
    _, rest = events.read(redis_client, first[-1].position)
    assert [event.position for event in (*first, *rest)] == [event.position for event in stream()]
    events.trim(redis_client, first[-1].position)
    assert [event.position for event in stream()] == [event.position for event in rest]


def test_an_event_has_all_that_the_ledger_needs(commit: Commit, hand: Hand) -> None:
    with commit("other"):
        handle = add.using(database="other").enqueue(1)
    claim: Claim = hand.take()
    enqueued, started = stream()
    assert (enqueued.event, enqueued.job_id, enqueued.name, enqueued.queue) == (
        *("enqueued", str(handle), "test-add", "reports"),
    )
    assert (enqueued.attempt, enqueued.worker, enqueued.database, enqueued.generation) == (
        0,
        "",
        "other",
        0,
    )
    assert (started.attempt, started.worker) == (claim.attempt, "w-1")
    assert near(started.at) and started.detail["wait"] >= 0
    assert uuid.UUID(started.job_id) == handle.id


def test_the_router_s_write_database_takes_plain_rq_jobs(
    redis_client: redis.Redis,
) -> None:
    assert Ledger("default", "default", redis_client).takes_rq_jobs is True
    assert Ledger("default", "other", redis_client).takes_rq_jobs is False
