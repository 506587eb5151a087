"""Enqueue: options, checks and their texts, payloads, delays, and ids of the caller's choice."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.contrib.auth.models import AnonymousUser, User
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone

from wellos_jobs import (
    JobHandle,
    JobOptions,
    JobQueue,
    JobState,
    Priority,
    broker,
    enqueue,
    enqueue_bulk,
)
from wellos_jobs.broker import keys
from wellos_jobs.definitions import ids
from wellos_jobs.definitions.definition import JobDefinition
from wellos_jobs.errors import BadOption, EncryptionError, PayloadError, UnknownQueue
from wellos_jobs.models import JobRecord

from ..jobs import add, echo, noop, secret
from ..support.engine import Books, Hand

BOTH = ["default", "other"]
pytestmark = pytest.mark.django_db(databases=BOTH)
Commit = Callable[..., Any]


@pytest.fixture
def commit(django_capture_on_commit_callbacks: Any) -> Commit:
    """``with commit():``: what is enqueued within is pushed at the end, as by a commit."""
    return lambda using="default": django_capture_on_commit_callbacks(using=using, execute=True)


# --- options --------------------------------------------------------------------------------------


def test_every_option_ends_up_in_the_row_and_in_redis(
    redis_client: redis.Redis, commit: Commit
) -> None:
    user = User.objects.create(username="ann")
    with commit():
        handle = add.using(
            queue="email",
            priority=Priority.HIGH,
            organization=42,
            requested_by=user,
            max_attempts=7,
            timeout=timedelta(minutes=2),
        ).enqueue(1)
    row = handle.record()
    assert (row.queue, row.priority, row.organization_id, row.requested_by) == (
        "email",
        3,
        "42",
        user,
    )
    assert (row.max_attempts, row.timeout, row.state, row.run_at) == (
        7,
        120.0,
        JobState.WAITING,
        None,
    )
    assert redis_client.lrange(keys.lane("email", Priority.HIGH), 0, -1) == [str(handle).encode()]
    claim = Hand("email").take()
    assert (claim.max_attempts, claim.timeout, claim.organization_id) == (7, 120.0, "42")
    assert (claim.user_id, claim.priority) == (str(user.pk), 3)


def test_defaults_come_from_declaration_queue_and_settings(
    settings: Any,
) -> None:
    assert add.enqueue(1).queue == "reports"
    assert secret.enqueue("s3cret").record().max_attempts == 1
    row = noop.enqueue().record()
    assert (row.queue, row.priority, row.max_attempts, row.timeout) == ("default", 5, 3, 300.0)
    settings.RQ_QUEUES = {
        **settings.RQ_QUEUES,
        "slow": {**settings.RQ_QUEUES["slow"], "DEFAULT_TIMEOUT": 900},
    }
    assert noop.using(queue="slow").enqueue().record().timeout == 900.0


def test_an_anonymous_user_is_not_stored() -> None:
    assert noop.using(requested_by=AnonymousUser()).enqueue().record().requested_by is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"delay": -1}, "delay is -1: it must be between 0 and "),
        ({"delay": float("nan")}, "delay is nan: it must be between 0 and "),
        ({"delay": float("inf")}, "delay is inf: "),
        ({"delay": "60"}, "delay is '60': give a number of seconds or a timedelta"),
        ({"timeout": 0}, "timeout is 0: it must be between 0.001 and "),
        ({"timeout": True}, "timeout is True: give a number of seconds"),
        ({"max_attempts": 0}, "max_attempts is 0: it must be a whole number of at least 1"),
        ({"max_attempts": 1.5}, "max_attempts is 1.5: "),
        ({"max_attempts": True}, "max_attempts is True: "),
        (
            {"priority": 2},
            "priority is 2: use one of Priority.CRITICAL, Priority.HIGH, Priority.NORMAL",
        ),
        ({"priority": True}, "priority is True: "),
        ({"run_at": "tomorrow"}, "run_at is 'tomorrow': give an aware datetime"),
        ({"delay": 1, "run_at": datetime.now(UTC)}, ": give one of them, not both"),
        (
            {"database": "othr"},
            "database is 'othr': that is not one of the databases",
        ),
    ],
)
def test_invalid_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(BadOption) as caught:
        JobOptions(**options)
    assert text in str(caught.value)
    with pytest.raises(BadOption):
        noop.using(**options)


def test_a_naive_run_at_says_so() -> None:
    with pytest.raises(ValueError, match="a naive datetime: give it a time zone"):
        noop.using(run_at=datetime(2030, 1, 1))


def test_an_unknown_option_suggests_the_closest() -> None:
    with pytest.raises(
        BadOption, match="test-noop.using: unknown option 'dely': did you mean 'delay'?"
    ):
        noop.using(dely=5)
    with pytest.raises(
        BadOption, match="unknown option 'xyzzy'; known options are batch, database, delay"
    ):
        noop.using(xyzzy=5)


def test_a_long_organization_id_is_refused() -> None:
    with pytest.raises(
        BadOption, match="organization is 65 characters long: give an id of at most 64"
    ):
        noop.using(organization="x" * 65).enqueue()


# --- names and queues -----------------------------------------------------------------------------


def test_a_job_is_enqueued_by_its_name_with_data_and_options() -> None:
    handle = enqueue("test-add", {"a": 1}, JobOptions(max_attempts=9))
    row = handle.record()
    assert (row.name, row.queue, row.data, row.max_attempts) == ("test-add", "reports", {"a": 1}, 9)
    assert enqueue("test-noop").record().data == {}


def test_an_unknown_queue_suggests_the_closest() -> None:
    for attempt in (lambda: noop.using(queue="emial").enqueue(), lambda: JobQueue("emial")):
        with pytest.raises(UnknownQueue, match="no queue 'emial': did you mean 'email'"):
            attempt()
    assert not JobRecord.objects.exists()


def test_an_undeclared_name_is_enqueued_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="wellos_jobs"):
        handle = enqueue("test-nop", {"x": 1})
    assert handle.record().data == {"x": 1}
    assert "No job is declared under the name 'test-nop': did you mean 'test-noop'?" in caplog.text


@pytest.mark.parametrize("name", ["", "two words", "x" * 181, "line\n", None, 7])
def test_an_invalid_name_is_refused(name: Any) -> None:
    with pytest.raises(BadOption, match="is not a valid job name: use at most 180 letters"):
        enqueue(name, {})
    assert not JobRecord.objects.exists()


def test_job_queue_enqueues_and_counts_in_its_queue(commit: Commit) -> None:
    queue = JobQueue("email")
    with commit():
        one = queue.enqueue("test-add", {"a": 1}, JobOptions(priority=Priority.LOW))
        queue.enqueue_bulk([("test-noop", {}, None), ("test-add", {"a": 2}, JobOptions(delay=60))])
    assert (one.queue, one.record().queue, one.record().priority) == ("email", "email", 7)
    metrics = queue.metrics()
    assert metrics["oldest_wait"] >= 0
    assert {
        key: metrics[key] for key in ("name", "waiting", "active", "delayed", "blocked", "total")
    } == {
        "name": "email",
        "waiting": 2,
        "active": 0,
        "delayed": 1,
        "blocked": 0,
        "total": 3,
    }


# --- data -----------------------------------------------------------------------------------------


def test_data_is_bound_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[Mapping[str, Any]] = []
    bind = JobDefinition.bind

    def counted(self: JobDefinition, args: tuple[Any, ...], data: Mapping[str, Any]) -> Any:
        bound.append(data)
        return bind(self, args, data)

    monkeypatch.setattr(JobDefinition, "bind", counted)
    add.enqueue(1, b=2)
    add.enqueue_bulk([{"a": 3}])
    enqueue("test-add", {"a": 4})
    assert bound == [{"b": 2}, {"a": 3}, {"a": 4}]


@pytest.mark.parametrize(
    ("attempt", "text"),
    [
        (lambda: add.enqueue(), "test-add: missing argument 'a'"),
        (lambda: add.enqueue(1, c=2), "test-add: unknown argument 'c'"),
        (lambda: add.enqueue(1, 2, 3), "test-add: takes 2 arguments by position, 3 were given"),
        (lambda: add.enqueue(1, a=2), "test-add: argument 'a' is given twice"),
        (lambda: enqueue("test-add", {"b": 1}), "test-add: missing argument 'a'"),
        (lambda: add.enqueue_bulk([{"a": 1}, {"aa": 1}]), "test-add: unknown argument 'aa'"),
    ],
)
def test_data_that_does_not_match_the_parameters_is_a_type_error(
    attempt: Callable[[], Any], text: str
) -> None:
    with pytest.raises(TypeError) as caught:
        attempt()
    assert text in str(caught.value)
    assert not JobRecord.objects.exists()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"value": {1, 2}}, 'data["value"] is a set: pass a sorted list'),
        ({"value": [{"at": datetime(2030, 1, 1)}]}, 'data["value"][0]["at"] is a naive datetime'),
        ({"value": "x" * 70_000}, "at most 65,536 are allowed"),
        ([1, 2], "data is a list: give a dict of named arguments"),
    ],
)
def test_data_that_cannot_be_encoded_is_a_payload_error(data: Any, text: str) -> None:
    with pytest.raises(PayloadError) as caught:
        enqueue("test-echo", data)
    assert text in str(caught.value)


def test_a_bulk_is_all_or_none() -> None:
    with pytest.raises(PayloadError):
        enqueue_bulk([("test-echo", {"value": 1}, None), ("test-echo", {"value": b"x"}, None)])
    assert not JobRecord.objects.exists()
    assert enqueue_bulk([]) == noop.enqueue_bulk([]) == []


VALUES: dict[str, Any] = {
    "uuid": uuid.UUID(int=7),
    "decimal": Decimal("12.340"),
    "at": datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "text": "Zürich 😀 \"quoted\" %s {} \\ 'x'",
    "null": None,
    "list": [1, -2.5, True, [], {}],
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("database", BOTH)
def test_rows_carry_values_faithfully_one_by_one_and_in_bulk(
    commit: Commit, database: str, count: int
) -> None:
    user = User.objects.create(username="ann")
    options = echo.using(database=database, requested_by=user, organization="ä", delay=0)
    with commit(database):
        handles = options.enqueue_bulk([{"value": VALUES}] * count)
    rows = JobRecord.objects.using(database).filter(name="test-echo")
    assert {row.pk for row in rows} == {handle.id for handle in handles}
    for row in rows:
        assert row.created_at.tzinfo is not None and abs(
            timezone.now() - row.created_at
        ) < timedelta(minutes=1)
        assert (row.organization_id, row.requested_by_id, row.result, row.rq_id) == (
            "ä",
            user.pk,
            None,
            None,
        )
    hand = Hand()
    assert [hand.run().kind for _ in handles] == ["completed"] * count
    assert [handle.result for handle in handles] == [VALUES] * count


@override_settings(WELLOS_JOBS={})
def test_a_sensitive_argument_without_keys_is_an_error_that_names_it() -> None:
    with pytest.raises(EncryptionError, match="Argument 'token': .*ENCRYPTION_KEYS"):
        secret.enqueue(token="s3cret")
    assert not JobRecord.objects.exists()


def test_a_sensitive_argument_is_encrypted_in_the_row_and_in_redis(
    redis_client: redis.Redis, commit: Commit
) -> None:
    with commit():
        handle = secret.enqueue(token="s3cret-value")
        [bulk] = secret.enqueue_bulk([{"token": "s3cret-value"}])
    for one in (handle, bulk):
        assert "s3cret-value" not in str(one.record().data)
        assert b"s3cret-value" not in b" ".join(redis_client.hgetall(keys.job(one)).values())


# --- delays ---------------------------------------------------------------------------------------


def test_a_delayed_job_waits_in_the_scheduled_set_with_the_exact_time(
    redis_client: redis.Redis, commit: Commit
) -> None:
    at = timezone.now() + timedelta(hours=1, microseconds=123)
    with commit():
        later = noop.using(run_at=at).enqueue()
        soon = noop.using(delay=0.25).enqueue()
    assert later.record().run_at == at
    assert (later.state, soon.state, later.record().state) == (JobState.DELAYED,) * 3
    scores = dict(redis_client.zrange(keys.DUE, 0, -1, withscores=True))
    assert scores[str(later).encode()] == pytest.approx(at.timestamp(), abs=1e-6)
    assert scores == dict(redis_client.zrange(keys.scheduled("default"), 0, -1, withscores=True))
    due = soon.record().created_at + timedelta(seconds=0.25)
    assert scores[str(soon).encode()] == pytest.approx(due.timestamp(), abs=0.2)


@pytest.mark.parametrize("ahead", [-3600, -30, 30, 3600], ids="{:+}s".format)
def test_a_delay_does_not_depend_on_the_clock_of_the_machine(
    redis_client: redis.Redis, commit: Commit, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """The Redis clock measures it; a date is a date by the Redis clock, too."""
    true_time = timezone.now
    date = true_time() + timedelta(seconds=7200)
    monkeypatch.setattr(timezone, "now", lambda: true_time() + timedelta(seconds=ahead))
    with commit():
        delayed, bulk = [
            noop.using(delay=10).enqueue(),
            *noop.using(delay=timedelta(seconds=10)).enqueue_bulk([{}]),
        ]
        dated = noop.using(run_at=date).enqueue()
    monkeypatch.undo()

    scores = dict(redis_client.zrange(keys.DUE, 0, -1, withscores=True))
    due = broker.redis_time(redis_client) + 10
    for handle in (delayed, bulk):
        assert scores[str(handle).encode()] == pytest.approx(due, abs=1)
    assert scores[str(dated).encode()] == pytest.approx(date.timestamp(), abs=1e-5)

    row = Books().row(delayed)
    assert row.state == JobState.DELAYED
    assert row.run_at.timestamp() == pytest.approx(due, abs=1), "the ledger corrects the row"


@pytest.mark.parametrize("options", [{"delay": 0}, {"run_at": datetime(2001, 1, 1, tzinfo=UTC)}])
def test_a_time_in_the_past_is_no_delay(commit: Commit, options: dict[str, Any]) -> None:
    with commit():
        handle = noop.using(**options).enqueue()
    assert handle.state is JobState.WAITING and handle.record().state == JobState.WAITING


# --- ids of the caller's choice -------------------------------------------------------------------


def test_a_second_enqueue_with_the_same_id_creates_no_job(
    redis_client: redis.Redis, commit: Commit
) -> None:
    options = JobOptions(id="invoice-42", queue="email")
    with commit():
        first = enqueue("test-echo", {"value": 1}, options)
        second = enqueue("test-echo", {"value": 2}, JobOptions(id="invoice-42", queue="slow"))
    assert first == second and (first.duplicate, second.duplicate) == (False, True)
    assert second.queue == "email"  # where the job is
    assert second.record().data == {"value": 1}
    assert JobRecord.objects.count() == 1
    assert redis_client.llen(keys.lane("email")) == 1 and not redis_client.llen(keys.lane("slow"))


def test_a_chosen_id_may_be_a_uuid_its_text_or_any_text() -> None:
    chosen = uuid.uuid4()
    assert noop.using(id=chosen).enqueue().id == noop.using(id=str(chosen)).enqueue().id == chosen
    assert noop.using(id="any text: ä").enqueue().id == ids.job_id("any text: ä")
    with pytest.raises(ValueError, match="id is empty"):
        noop.using(id="").enqueue()


def test_an_id_twice_in_one_bulk_makes_one_job_and_order_is_kept(
    redis_client: redis.Redis, commit: Commit
) -> None:
    jobs = [
        ("test-echo", {"value": 0}, None),
        ("test-echo", {"value": 1}, JobOptions(id="b")),
        ("test-echo", {"value": 2}, JobOptions(id="a")),
        ("test-echo", {"value": 3}, JobOptions(id="b")),
        ("test-echo", {"value": 4}, None),
    ]
    with commit():
        handles = enqueue_bulk(jobs)
    assert [handle.duplicate for handle in handles] == [False, False, False, True, False]
    assert handles[3] == handles[1]
    queued = [job_id.decode() for job_id in redis_client.lrange(keys.lane("default"), 0, -1)]
    assert queued == [str(handles[number]) for number in (0, 1, 2, 4)]


def test_a_final_job_keeps_its_id(commit: Commit) -> None:
    with commit():
        noop.using(id="once").enqueue()
    Hand().run()
    with commit():
        assert noop.using(id="once").enqueue().duplicate
    assert Hand().claim() is None


def in_threads(*bodies: Callable[[], JobHandle | list[JobHandle]]) -> list[Any]:
    """Run each body in a thread with connections of its own."""

    def run(body: Callable[[], Any]) -> Any:
        try:
            return body()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(bodies)) as pool:
        return [future.result(30) for future in [pool.submit(run, body) for body in bodies]]


@pytest.mark.django_db(transaction=True, databases=BOTH)
@pytest.mark.parametrize("commits", [True, False])
def test_of_two_at_once_the_second_waits_for_the_first(commits: bool) -> None:
    inserted, tried = threading.Event(), threading.Event()

    def first() -> JobHandle:
        with transaction.atomic():
            handle = noop.using(id="race").enqueue()
            inserted.set()
            tried.wait(0.2)  # the second cannot say that it waits for our row
            transaction.set_rollback(not commits)
        return handle

    def second() -> JobHandle:
        inserted.wait(10)
        with transaction.atomic():
            handle = noop.using(id="race").enqueue()
        tried.set()
        return handle

    one, two = in_threads(first, second)
    assert one == two
    assert two.duplicate is commits
    assert JobRecord.objects.count() == 1
    assert two.state is JobState.WAITING


@pytest.mark.django_db(transaction=True, databases=BOTH)
def test_concurrent_enqueues_create_one_job_per_id(redis_client: redis.Redis) -> None:
    start = threading.Barrier(4)

    def body(turn: int) -> list[JobHandle]:
        start.wait(10)
        made = []
        for number in range(10):
            names = [f"{number}-{n}" for n in range(5)]
            jobs = [
                ("test-noop", {}, JobOptions(id=name))
                for name in (names if turn % 2 else reversed(names))
            ]
            made += enqueue_bulk(jobs)
        return made

    handles = [
        handle
        for made in in_threads(*(lambda turn=turn: body(turn) for turn in range(4)))
        for handle in made
    ]
    assert len({handle.id for handle in handles}) == 50
    assert sum(not handle.duplicate for handle in handles) == 50
    assert JobRecord.objects.count() == 50
    assert redis_client.llen(keys.lane("default")) == 50
