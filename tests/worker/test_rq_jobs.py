"""Jobs enqueued through RQ on our queues: all features of RQ work, and they get rows."""

from __future__ import annotations

import logging
import pickle
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django_rq
import pytest
import redis
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from rq import Callback, Repeat, Retry
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimit
from rq.serializers import JSONSerializer
from rq.suspension import suspend

from wellos_jobs import JobState
from wellos_jobs.broker import keys, queues
from wellos_jobs.broker.claims import rescue
from wellos_jobs.definitions import ids
from wellos_jobs.enqueueing import control
from wellos_jobs.models import DeadLetter, JobAttempt, JobRecord
from wellos_jobs.payload.rq_calls import MAX_UNZIPPED
from wellos_jobs.signals import job_completed, job_failed, job_started

from ..jobs import foreign_add, foreign_fail
from ..support import rq_functions
from ..support.engine import Books, Hand, listening, stream, work
from ..support.processes import wait_until

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture(autouse=True)
def at_once(settings: Any) -> None:
    """django-rq waits for the commit of the transaction around the test, which never comes."""
    settings.RQ = {**settings.RQ, "COMMIT_MODE": "auto"}


@pytest.fixture(autouse=True)
def calls() -> list[tuple[Any, ...]]:
    """What the functions of ``rq_functions`` have noted."""
    rq_functions.CALLS.clear()
    return rq_functions.CALLS


def row(job: Job) -> JobRecord:
    """Fold, then return the row of a foreign job."""
    Books().fold()
    return JobRecord.objects.get(rq_id=job.id)


def status(job: Job) -> JobStatus:
    return job.get_status(refresh=True)


def work_until(predicate: Callable[[], Any], hand: Hand) -> None:
    """Work, with a supervisor's ticks in between, until something holds."""

    def step() -> Any:
        hand.supervise()
        work("default")
        return predicate()

    wait_until(step, 15)


# --- a plain job ----------------------------------------------------------------------------------


def test_a_plain_job_runs_and_gets_a_row_under_its_dotted_path() -> None:
    job = django_rq.enqueue(foreign_add, 2, b=3)
    waiting = row(job)
    assert (waiting.name, waiting.state, waiting.queue) == (
        "tests.jobs.foreign_add",
        JobState.WAITING,
        "default",
    )
    assert (waiting.data, waiting.is_foreign, waiting.pk) == (
        {"b": 3, "args": [2]},
        True,
        ids.derived_id("rq", job.id),
    )
    work("default", name="w")
    assert (status(job), job.return_value(refresh=True)) == (JobStatus.FINISHED, 5)
    done = row(job)
    assert (done.state, done.attempts, done.worker, done.error) == (JobState.COMPLETED, 1, "w", "")
    assert done.result == 5
    assert (
        done.started_at is not None
        and done.finished_at is not None
        and done.started_at <= done.finished_at
    )


def test_a_failed_job_gets_a_dead_letter_with_a_traceback_that_begins_in_the_job() -> None:
    job = django_rq.enqueue(foreign_fail, "no luck")
    work("default")
    assert status(job) is JobStatus.FAILED
    failed = row(job)
    assert (failed.state, failed.error) == (JobState.FAILED, "no luck")
    dead_letter = DeadLetter.objects.get(job=failed)
    assert (dead_letter.reason, dead_letter.error_class, dead_letter.message) == (
        "exhausted",
        "ValueError",
        "no luck",
    )
    assert (
        "foreign_fail" in dead_letter.traceback and "site-packages/rq" not in dead_letter.traceback
    )
    attempt = JobAttempt.objects.get(job=failed)
    assert (attempt.outcome, attempt.number, attempt.error_class) == ("failed", 1, "ValueError")


def test_a_job_whose_hash_is_gone_before_the_ledger_reads_the_event_is_still_known() -> None:
    job = django_rq.get_queue().enqueue(foreign_add, 1, result_ttl=0)
    work("default")
    assert not Job.exists(job.id, connection=job.connection)
    done = row(job)
    assert (done.name, done.state, done.data) == (
        "tests.jobs.foreign_add",
        JobState.COMPLETED,
        {"args": [1]},
    )


def test_ids_need_not_be_uuids() -> None:
    job = django_rq.get_queue().enqueue(foreign_add, 1, job_id="nightly_import-7")
    work("default")
    assert row(job).rq_id == "nightly_import-7"


def test_ids_that_differ_in_case_are_two_jobs() -> None:
    jobs = [
        django_rq.get_queue().enqueue(foreign_add, 1, job_id=name)
        for name in ("nightly", "Nightly")
    ]
    work("default")
    assert [row(job).rq_id for job in jobs] == ["nightly", "Nightly"]


def test_on_commit_of_django_rq_works(
    settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    settings.RQ = {**settings.RQ, "COMMIT_MODE": "on_db_commit"}
    with django_capture_on_commit_callbacks(execute=True):
        assert django_rq.enqueue(foreign_add, 1) is None
        assert Hand("default").claim() is None
    assert work("default").jobs_done == 1


def test_a_job_pushed_by_rq_s_plain_queue_is_found_without_a_bell(
    redis_client: redis.Redis,
) -> None:
    hand = Hand("default")
    job = Queue("default", connection=redis_client, serializer=JSONSerializer).enqueue(
        foreign_add, 1
    )
    assert hand.claim() is None  # it rang no bell
    hand.supervise()
    assert hand.is_bell_rung() and hand.take().id == job.id
    assert row(job).state == JobState.ACTIVE


def test_a_worker_of_several_queues_runs_foreign_jobs_of_each() -> None:
    jobs = [
        django_rq.get_queue(name).enqueue(foreign_add, 1) for name in ("email", "slow", "email")
    ]
    assert work("email", "slow").jobs_done == 3
    assert [row(job).state for job in jobs] == [JobState.COMPLETED] * 3


def test_a_foreign_job_opens_no_connection_of_its_own(redis_client: redis.Redis) -> None:
    for _ in range(5):
        django_rq.enqueue(foreign_add, 1)
    hand = Hand("default")
    before = redis_client.info("stats")["total_connections_received"]
    work("default")
    assert redis_client.info("stats")["total_connections_received"] - before <= 3
    assert hand.claim() is None


def test_signals_are_sent_for_foreign_jobs_too() -> None:
    job = django_rq.enqueue(foreign_add, 1)
    broken = django_rq.enqueue(foreign_fail)
    with (
        listening(job_started) as started,
        listening(job_completed) as done,
        listening(job_failed) as failed,
    ):
        work("default")
    assert [(one["job_id"], one["name"]) for one in started] == [
        (job.id, "tests.jobs.foreign_add"),
        (broken.id, "tests.jobs.foreign_fail"),
    ]
    assert [one["job_id"] for one in done] == [job.id]
    assert [one["job_id"] for one in failed] == [broken.id]


# --- RQ's features --------------------------------------------------------------------------------


def test_callbacks(calls: list[tuple[Any, ...]]) -> None:
    good = django_rq.get_queue().enqueue(
        foreign_add, 1, on_success=Callback(rq_functions.succeeded)
    )
    bad = django_rq.get_queue().enqueue(foreign_fail, on_failure=Callback(rq_functions.failed))
    work("default")
    assert calls == [("succeeded", good.id, 2), ("failed", bad.id, "ValueError")]


def test_a_callback_that_raises_fails_the_job_as_in_rq() -> None:
    job = django_rq.get_queue().enqueue(
        foreign_add, 1, on_success=Callback(rq_functions.broken_callback)
    )
    work("default")
    assert (row(job).state, row(job).error) == (JobState.FAILED, "the callback is broken")


def test_retry_at_once() -> None:
    job = django_rq.get_queue().enqueue(rq_functions.fail_until, 3, retry=Retry(max=3))
    work("default")
    assert status(job) is JobStatus.FINISHED
    done = row(job)
    assert (done.state, done.attempts, done.error) == (JobState.COMPLETED, 3, "")
    assert [
        (one.number, one.outcome, one.message) for one in JobAttempt.objects.filter(job=done)
    ] == [
        (1, "retried", "call 1"),
        (2, "retried", "call 2"),
    ]


def test_a_retry_at_once_is_waiting_and_one_with_an_interval_is_delayed() -> None:
    hand = Hand("default")
    at_once = django_rq.get_queue().enqueue(rq_functions.fail_until, 9, retry=Retry(max=3))
    work("default", max_jobs=1)
    assert row(at_once).state == JobState.WAITING
    at_once.delete()
    later = django_rq.get_queue().enqueue(
        rq_functions.fail_until, 9, retry=Retry(max=3, interval=[600])
    )
    hand.supervise()
    work("default")
    delayed = row(later)
    assert delayed.state == JobState.DELAYED and delayed.run_at is not None
    assert timedelta(seconds=590) < delayed.run_at - datetime.now(UTC) < timedelta(seconds=601)


def test_retry_with_intervals_needs_no_scheduler_of_rq(calls: list[tuple[Any, ...]]) -> None:
    job = django_rq.get_queue().enqueue(
        rq_functions.fail_until, 2, retry=Retry(max=2, interval=[1])
    )
    work_until(lambda: status(job) is JobStatus.FINISHED, Hand("default"))
    assert row(job).attempts == 2


def test_a_job_that_returns_retry(calls: list[tuple[Any, ...]]) -> None:
    job = django_rq.get_queue().enqueue(rq_functions.ask_again, 1)
    work("default")
    done = row(job)
    assert (done.state, done.attempts) == (JobState.COMPLETED, 2)
    assert [one.error_class for one in JobAttempt.objects.filter(job=done)] == ["rq.Retry"]
    endless = django_rq.get_queue().enqueue(rq_functions.ask_again, 99)
    work("default")
    assert (status(endless), row(endless).state) == (JobStatus.FAILED, JobState.FAILED)


def test_repeat(calls: list[tuple[Any, ...]]) -> None:
    job = django_rq.get_queue().enqueue(rq_functions.note, "x", repeat=Repeat(times=2))
    work("default")
    assert calls == [("note", "x")] * 3
    done = row(job)
    assert (done.state, done.attempts) == (JobState.COMPLETED, 3)
    assert not JobAttempt.objects.filter(job=done).exists()


def test_repeat_with_an_interval_is_delayed_in_between(calls: list[tuple[Any, ...]]) -> None:
    job = django_rq.get_queue().enqueue(rq_functions.note, "x", repeat=Repeat(times=1, interval=1))
    hand = Hand("default")
    work("default")
    assert row(job).state == JobState.DELAYED
    work_until(lambda: len(calls) == 2, hand)
    assert row(job).state == JobState.COMPLETED


def test_depends_on(calls: list[tuple[Any, ...]]) -> None:
    hand = Hand("default")
    first = django_rq.get_queue().enqueue(rq_functions.note, "first")
    second = django_rq.get_queue("slow").enqueue(rq_functions.note, "second", depends_on=first)
    broken = django_rq.get_queue().enqueue(foreign_fail)
    never = django_rq.get_queue().enqueue(rq_functions.note, "never", depends_on=broken)
    assert status(second) is JobStatus.DEFERRED and queues.counts("slow").blocked == 1
    work_until(lambda: status(first) is JobStatus.FINISHED, hand)
    work("slow")
    assert calls == [("note", "first"), ("note", "second")]
    assert status(never) is JobStatus.DEFERRED
    assert row(second).state == JobState.COMPLETED


def test_rate_limit(calls: list[tuple[Any, ...]]) -> None:
    limit = RateLimit("api", concurrency=1)
    jobs = [django_rq.get_queue().enqueue(rq_functions.note, n, rate_limit=limit) for n in range(3)]
    assert django_rq.get_queue().count == 1
    work_until(lambda: len(calls) == 3, Hand("default"))
    assert [row(job).state for job in jobs] == [JobState.COMPLETED] * 3


def test_enqueue_in_and_enqueue_at_need_no_scheduler_of_rq(calls: list[tuple[Any, ...]]) -> None:
    queue = django_rq.get_queue()
    hand = Hand("default")
    soon = queue.enqueue_in(timedelta(seconds=1), rq_functions.note, "in")
    queue.enqueue_at(datetime.now(UTC) + timedelta(seconds=1), rq_functions.note, "at")
    queue.enqueue_in(timedelta(hours=1), rq_functions.note, "later")
    assert work("default").jobs_done == 0
    assert queues.counts("default").delayed == 3
    delayed = row(soon)
    assert delayed.state == JobState.DELAYED
    assert delayed.run_at is not None and abs(delayed.run_at - datetime.now(UTC)) < timedelta(
        seconds=2
    )
    work_until(lambda: len(calls) == 2, hand)
    assert {call[1] for call in calls} == {"in", "at"}
    assert row(soon).state == JobState.COMPLETED
    assert queues.counts("default").delayed == 1


def test_enqueue_many(calls: list[tuple[Any, ...]]) -> None:
    queue = django_rq.get_queue()
    jobs = queue.enqueue_many([Queue.prepare_data(rq_functions.note, (n,)) for n in range(3)])
    work("default")
    assert calls == [("note", 0), ("note", 1), ("note", 2)]
    assert [row(job).state for job in jobs] == [JobState.COMPLETED] * 3


def test_at_front_goes_in_front(calls: list[tuple[Any, ...]]) -> None:
    queue = django_rq.get_queue()
    queue.enqueue(rq_functions.note, "a")
    queue.enqueue(rq_functions.note, "b", at_front=True)
    work("default")
    assert calls == [("note", "b"), ("note", "a")]


def test_a_timeout_of_rq_ends_the_job_and_is_the_reason_of_the_dead_letter() -> None:
    job = django_rq.get_queue().enqueue(rq_functions.sleep, 30, job_timeout=1)
    work("default")
    assert status(job) is JobStatus.FAILED
    dead_letter = DeadLetter.objects.get(job=row(job))
    assert dead_letter.reason == "timeout" and "JobTimeoutException" in dead_letter.error_class


def test_a_job_without_a_timeout_is_not_abandoned_when_a_viewer_cleans_up(
    redis_client: redis.Redis,
) -> None:
    job = django_rq.get_queue().enqueue(rq_functions.look_at_the_registry, job_timeout=-1)
    work("default")
    assert job.return_value(refresh=True) == keys.FAR
    assert row(job).state == JobState.COMPLETED


def test_exception_handlers_of_django_rq_are_called(
    monkeypatch: pytest.MonkeyPatch, calls: list[Any]
) -> None:
    monkeypatch.setattr(
        "django_rq.settings.EXCEPTION_HANDLERS", ["tests.support.rq_functions.handle"]
    )
    job = django_rq.enqueue(foreign_fail)
    work("default")
    assert calls == [("handled", job.id, "ValueError")]


# --- taking jobs back -----------------------------------------------------------------------------


def test_a_job_that_rq_cancels_does_not_run_and_its_row_says_so(redis_client: redis.Redis) -> None:
    hand = Hand("default")
    job = django_rq.enqueue(foreign_add, 1)
    scheduled = django_rq.get_queue().enqueue_in(timedelta(hours=1), foreign_add, 2)
    job.cancel()
    scheduled.cancel()
    assert hand.claim() is None
    hand.supervise()
    assert (row(job).state, row(scheduled).state) == (JobState.CANCELED,) * 2
    events = len(stream())
    hand.supervise()
    assert len(stream()) == events  # once
    assert status(job) is JobStatus.CANCELED
    assert redis_client.zcard(keys.canceled("default")) == 2


def test_our_cancel_reaches_a_foreign_job(redis_client: redis.Redis) -> None:
    job = django_rq.enqueue(foreign_add, 1)
    assert control.cancel(row(job)) == "canceled"
    assert status(job) is JobStatus.CANCELED
    assert row(job).state == JobState.CANCELED
    assert 0 < redis_client.ttl(Job.key_for(job.id)) <= 31_536_000


def test_our_cancel_closes_the_row_of_a_foreign_job_that_redis_has_lost(
    redis_client: redis.Redis,
) -> None:
    job = django_rq.enqueue(foreign_add, 1)
    record = row(job)
    job.delete()
    assert control.cancel(record) == "canceled"
    assert row(job).state == JobState.CANCELED


def test_promote_reaches_a_foreign_job() -> None:
    job = django_rq.get_queue().enqueue(
        rq_functions.fail_until, 2, retry=Retry(max=3, interval=[600])
    )
    work("default")
    assert control.promote(row(job)) is True
    work("default")
    assert row(job).state == JobState.COMPLETED


def test_empty_cancels_ours_and_deletes_foreign_ones(
    django_capture_on_commit_callbacks: Any,
) -> None:
    from ..jobs import noop

    with django_capture_on_commit_callbacks(execute=True):
        ours = noop.enqueue()
    foreign = django_rq.enqueue(foreign_add, 1)
    assert django_rq.get_queue().empty() == 2
    assert not Job.exists(foreign.id, connection=foreign.connection)
    assert ours.state is JobState.CANCELED
    assert row(foreign).state == JobState.CANCELED
    assert Books().row(ours).state == JobState.CANCELED


def test_remove_takes_a_foreign_job_out_and_leaves_its_hash_to_rq() -> None:
    job = django_rq.enqueue(foreign_add, 1)
    assert django_rq.get_queue().remove(job) == 1
    assert Hand("default").claim() is None
    assert status(job) is JobStatus.QUEUED


def test_deleting_a_queue_with_its_jobs(django_capture_on_commit_callbacks: Any) -> None:
    django_rq.enqueue(foreign_add, 1)
    django_rq.get_queue().delete()
    assert work("default").jobs_done == 0


def test_rq_s_suspension_holds_foreign_jobs(redis_client: redis.Redis) -> None:
    django_rq.enqueue(foreign_add, 1)
    suspend(redis_client)
    assert work("default").jobs_done == 0


# --- pickles, and data that is no data ------------------------------------------------------------


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return rq_functions.note, ("unpickled",)


def test_a_pickled_payload_ends_as_a_dead_letter_and_is_never_loaded(
    redis_client: redis.Redis, calls: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue("default", connection=redis_client)  # RQ's default: pickle
    job = queue.enqueue(foreign_add, Bomb())
    assert pickle.loads(job.data) and calls == [("note", "unpickled")]
    calls.clear()
    with caplog.at_level(logging.DEBUG):
        Hand("default").supervise()
        work("default")
    record = row(job)
    dead_letter = DeadLetter.objects.get(job=record)
    assert calls == []
    assert (record.state, dead_letter.reason) == (JobState.FAILED, "bad_payload")
    assert (
        "enqueue with rq.serializers.JSONSerializer" in dead_letter.message
        and "ALLOW_PICKLE" in dead_letter.message
    )
    assert 0 < redis_client.ttl(Job.key_for(job.id)) <= 31_536_000
    assert queues.counts("default").active == 0


def test_allowed_pickles_are_run(settings: Any, redis_client: redis.Redis) -> None:
    settings.WELLOS_JOBS = {"ALLOW_PICKLE": True}
    job = Queue("default", connection=redis_client).enqueue(foreign_add, 2, b=3)
    Hand("default").supervise()
    work("default")
    assert job.return_value(refresh=True) == 5
    record = row(job)
    assert (record.state, record.data) == (JobState.COMPLETED, {})  # the ledger never unpickles
    assert "foreign_add" in record.name


@pytest.mark.parametrize(
    "payload",
    [
        b"[1,2,3]",
        b'{"a":1}',
        b'["f",null,[],[1,2]]',
        b"[" * 100_000,
        b"not json",
        b"",
        b"\x80\x05N.",
    ],
)
def test_data_that_is_not_a_call_ends_as_a_dead_letter_and_does_no_harm(
    redis_client: redis.Redis, payload: bytes
) -> None:
    redis_client.hset(
        "rq:job:odd", mapping={"status": "queued", "origin": "default", "data": payload}
    )
    redis_client.rpush(keys.lane("default"), "odd")
    good = django_rq.enqueue(foreign_add, 1)
    assert work("default").jobs_done == 2
    assert row(good).state == JobState.COMPLETED
    odd = JobRecord.objects.get(rq_id="odd")
    assert odd.state == JobState.FAILED and odd.dead_letters.get().reason == "bad_payload"


def test_a_function_that_does_not_exist_fails_with_its_name() -> None:
    job = django_rq.enqueue("tests.support.rq_functions.no_such_function", 1)
    work("default")
    record = row(job)
    assert (record.state, record.name) == (
        JobState.FAILED,
        "tests.support.rq_functions.no_such_function",
    )
    assert "no_such_function" in record.error


# --- a worker that dies ---------------------------------------------------------------------------


def test_a_foreign_job_of_a_dead_worker_runs_again_and_leaves_no_execution_behind(
    redis_client: redis.Redis,
) -> None:
    job = django_rq.enqueue(foreign_add, 1)
    hand = Hand("default", name="dying")
    claim = hand.take()
    worker = hand.foreign()._rq_worker()
    fetched = Job.fetch(claim.id, connection=redis_client, serializer=JSONSerializer)
    worker.prepare_execution(fetched)
    assert queues.counts("default").active == 1
    assert [
        one.ending for one in rescue(hand.connection, "crashed", "it died", worker="dying")
    ] == ["waiting"]
    assert queues.counts("default").active == 0
    work("default")
    record = row(job)
    assert (record.state, record.attempts) == (JobState.COMPLETED, 2)
    assert [one.outcome for one in JobAttempt.objects.filter(job=record)] == ["crashed"]


def test_a_foreign_job_that_kills_each_worker_is_given_up(redis_client: redis.Redis) -> None:
    job = django_rq.enqueue(foreign_add, 1)
    hand = Hand("default", name="dying")
    endings = []
    for _ in range(3):
        hand.take()
        endings += [
            one.ending for one in rescue(hand.connection, "crashed", "it died", worker="dying")
        ]
    assert endings == ["waiting", "waiting", "failed"]
    assert (row(job).state, status(job)) == (JobState.FAILED, JobStatus.FAILED)
    assert row(job).dead_letters.get().reason == "crashed"


def test_folding_a_hundred_foreign_jobs_is_a_handful_of_queries() -> None:
    for number in range(100):
        django_rq.enqueue(foreign_add, number)
    work("default")
    books = Books()
    with CaptureQueriesContext(database) as queries:
        books.fold()
    assert JobRecord.objects.filter(state=JobState.COMPLETED).count() == 100
    assert len(queries) <= 18


# --- payloads that unpack to too much -------------------------------------------------------------


def bomb(job: Job, client: redis.Redis, field: str = "data") -> None:
    """Give a job's hash a field of some 120 KB that unpacks to 120 MiB."""
    packer = zlib.compressobj()
    parts = [packer.compress(b"["), *(packer.compress(b" " * 1024 * 1024) for _ in range(120))]
    client.hset(job.key, field, b"".join([*parts, packer.compress(b"]"), packer.flush()]))


@pytest.mark.parametrize("field", ["data", "exc_info"])
@pytest.mark.parametrize("allow", [False, True])
def test_a_payload_that_unpacks_to_too_much_ends_as_bad_payload(
    settings: Any, redis_client: redis.Redis, field: str, allow: bool
) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "ALLOW_PICKLE": allow}
    job = django_rq.enqueue(foreign_add, "ten", b=3)
    neighbor = django_rq.enqueue(foreign_add, 2, b=3)
    bomb(job, redis_client, field)

    tracemalloc.start()
    work("default")
    record = row(job)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 5 * MAX_UNZIPPED
    letter = DeadLetter.objects.get(job=record)
    assert (record.state, letter.reason) == (JobState.FAILED, "bad_payload")
    assert "unpacks to more than 16,777,216" in letter.message
    assert row(neighbor).state == JobState.COMPLETED


@pytest.mark.parametrize("field", ["data", "exc_info"])
def test_a_dependent_that_unpacks_to_too_much_harms_only_itself(
    redis_client: redis.Redis, field: str
) -> None:
    """RQ's code reads the hashes of all dependents when a job has ended."""
    first = django_rq.enqueue(foreign_add, 1)
    heavy = django_rq.enqueue(foreign_add, 2, depends_on=first)
    neighbor = django_rq.enqueue(foreign_add, 3, depends_on=first)
    bomb(heavy, redis_client, field)

    tracemalloc.start()
    hand = Hand("default")
    work_until(lambda: status(neighbor) is JobStatus.FINISHED, hand)
    work_until(lambda: status(heavy) is JobStatus.FAILED, hand)
    records = [row(job) for job in (first, heavy, neighbor)]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 5 * MAX_UNZIPPED
    assert [record.state for record in records] == ["completed", "failed", "completed"]


def test_an_id_that_is_too_long_for_the_row_is_refused() -> None:
    with pytest.raises(ValueError, match="has 181 bytes: jobs on these queues have at most 180"):
        django_rq.get_queue().enqueue(foreign_add, 1, job_id="x" * 181)
    job = django_rq.get_queue().enqueue(foreign_add, 1, job_id="x" * 180)
    work("default")
    assert row(job).state == JobState.COMPLETED


def test_ids_that_are_too_long_and_were_enqueued_by_stock_rq(redis_client: redis.Redis) -> None:
    """They fail, each with a row of its own: a run with such an id could not be stopped."""
    queue = Queue("default", connection=redis_client, serializer=JSONSerializer)
    jobs = [queue.enqueue(foreign_add, 1, job_id="x" * 200 + end) for end in "ab"]
    neighbor = django_rq.enqueue(foreign_add, 2)
    work("default")
    Books().fold()
    letters = DeadLetter.objects.all()
    assert [letter.reason for letter in letters] == ["bad_payload"] * len(jobs)
    assert all("has 201 bytes" in letter.message for letter in letters)
    assert row(neighbor).state == JobState.COMPLETED


def test_the_ledger_survives_a_waiting_payload_that_unpacks_to_too_much(
    redis_client: redis.Redis,
) -> None:
    job = django_rq.enqueue(foreign_add, "ten", b=3)
    bomb(job, redis_client)
    neighbor = django_rq.enqueue(foreign_add, 2, b=3)
    assert (row(job).state, row(job).data) == (JobState.WAITING, {})
    assert row(neighbor).state == JobState.WAITING


def test_large_arguments_of_a_plain_job_are_run_but_not_stored_in_its_row() -> None:
    job = django_rq.enqueue(foreign_add, "x" * 2_000_000, b="y")
    work("default")
    record = row(job)
    assert record.state == JobState.COMPLETED
    assert record.data == {"…": record.data["…"]} and "not stored" in record.data["…"]
