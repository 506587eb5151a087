"""One run: each way it can end, sync and async, and what is stored of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from wellos_jobs import (
    Discard,
    JobHandle,
    JobOptions,
    JobState,
    Retry,
    Snooze,
    current_job,
    enqueue,
    report_progress,
)
from wellos_jobs.broker import keys
from wellos_jobs.broker.claims import Claim, Outcome
from wellos_jobs.definitions import registry
from wellos_jobs.definitions.validation import define
from wellos_jobs.errors import InvalidOperation, JobHandedBack, JobStopped
from wellos_jobs.models import JobRecord
from wellos_jobs.states import FailureReason
from wellos_jobs.worker.execution import run
from wellos_jobs.worker.timeouts import RunTimer

from ..jobs import echo, secret
from ..support.engine import Hand

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@dataclasses.dataclass
class Bench:
    """Runs functions as jobs."""

    commit: Callable[[], Any]

    def enqueue(
        self, function: Callable[..., Any], data: dict[str, Any] | None = None, **options: Any
    ) -> JobHandle:
        """Enqueue a function of this module as the job "bench"."""
        registry.register(define("bench", function, **options))
        with self.commit():
            return enqueue("bench", data or {})

    def run(
        self, function: Callable[..., Any], data: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run a function of this module as a job; return the outcome."""
        self.enqueue(function, data, **options)
        return Hand().run()


@pytest.fixture
def bench(django_capture_on_commit_callbacks: Any) -> Iterator[Bench]:
    with registry.isolated():
        yield Bench(lambda: django_capture_on_commit_callbacks(execute=True))


class Refused(Exception):
    """An answer of an HTTP service."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
        super().__init__(f"HTTP {status_code}")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


# --- endings --------------------------------------------------------------------------------------


def give_back(value: Any = None) -> Any:
    return value


async def give_back_later(value: Any = None) -> Any:
    await asyncio.sleep(0)
    return value


def throw(what: str) -> None:
    raise ERRORS[what]


async def throw_later(what: str) -> None:
    await asyncio.sleep(0)
    raise ERRORS[what]


ERRORS: dict[str, BaseException] = {
    "plain": ValueError("broken"),
    "http 404": Refused(404),
    "http 503": Refused(503),
    "validation": ValidationError("no such plan"),
    "type error": TypeError("unsupported operand"),
    "retry": Retry(after=7, message="not yet"),
    "snooze": Snooze(30, "closed"),
    "discard": Discard("no longer wanted"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "mute": Mute(),
    "group": ExceptionGroup("several", [ValueError("one"), OSError("two")]),
}


@pytest.mark.parametrize("function", [give_back, give_back_later])
def test_a_run_that_returns_completes_with_its_result(
    bench: Bench, function: Callable[..., Any]
) -> None:
    handle = bench.enqueue(function, {"value": {"a": [1, None]}})
    outcome = Hand().run()
    assert (outcome.kind, json.loads(outcome.result)) == ("completed", {"a": [1, None]})
    assert 0 < outcome.seconds < 5
    assert (handle.state, handle.result) == (JobState.COMPLETED, {"a": [1, None]})


@pytest.mark.parametrize("function", [throw, throw_later])
@pytest.mark.parametrize(
    ("what", "kind", "reason", "after", "error_class"),
    [
        ("plain", "retried", None, 2.0, "ValueError"),
        ("http 404", "failed", "not_retryable", 0.0, "tests.worker.test_execution.Refused"),
        ("http 503", "retried", None, 2.0, "tests.worker.test_execution.Refused"),
        ("validation", "failed", "not_retryable", 0.0, "django.core.exceptions.ValidationError"),
        ("type error", "retried", None, 2.0, "TypeError"),
        ("retry", "retried", None, 7.0, "wellos_jobs.Retry"),
        ("snooze", "snoozed", None, 30.0, ""),
        ("discard", "failed", "not_retryable", 0.0, "wellos_jobs.Discard"),
        ("exit", "retried", None, 2.0, "SystemExit"),
        ("interrupt", "retried", None, 2.0, "KeyboardInterrupt"),
        ("mute", "retried", None, 2.0, "tests.worker.test_execution.Mute"),
        ("group", "retried", None, 2.0, "ExceptionGroup"),
    ],
)
def test_what_a_job_raises_is_judged(
    bench: Bench,
    function: Callable[..., Any],
    what: str,
    kind: str,
    reason: str | None,
    after: float,
    error_class: str,
) -> None:
    outcome = bench.run(function, {"what": what})
    assert (outcome.kind, outcome.reason, outcome.error_class) == (kind, reason, error_class)
    assert outcome.after == pytest.approx(after, rel=0.11)  # the jitter
    if kind == "retried" and what != "mute":
        assert outcome.message == str(ERRORS[what])
        assert function.__name__ in outcome.traceback


def test_an_error_whose_text_is_not_available(bench: Bench) -> None:
    outcome = bench.run(throw, {"what": "mute"})
    assert outcome.message == "(its message is not available: str() raised RuntimeError)"


class Stubborn(BaseException):
    """Its text raises what no ``except Exception`` catches."""

    def __str__(self) -> str:
        raise SystemExit(4)

    __repr__ = __str__


@pytest.mark.parametrize("within", [False, True])
def test_an_error_whose_text_ends_the_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    error: BaseException = Stubborn()
    if within:
        error = ValueError("broken")
        error.__cause__ = Stubborn()
    monkeypatch.setitem(ERRORS, "stubborn", error)
    outcome = bench.run(throw, {"what": "stubborn"})
    assert outcome.kind == "retried"
    assert outcome.message == (
        "broken" if within else "(its message is not available: str() raised SystemExit)"
    )
    assert "Stubborn" in outcome.traceback


def test_the_last_attempt_fails_for_good(bench: Bench) -> None:
    handle = bench.enqueue(throw, {"what": "plain"}, max_attempts=1)
    outcome = Hand().run()
    assert (outcome.kind, outcome.reason) == ("failed", FailureReason.EXHAUSTED)
    assert (handle.state, handle.error) == (JobState.FAILED, "broken")


def test_the_policy_of_the_declaration_counts(bench: Bench) -> None:
    outcome = bench.run(throw, {"what": "plain"}, discard_on=(ValueError,))
    assert (outcome.kind, outcome.reason) == ("failed", FailureReason.NOT_RETRYABLE)


# --- data that cannot be used ---------------------------------------------------------------------


def test_an_unknown_job_waits_and_names_the_near_miss(
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        handle = enqueue("test-eco", {"value": 1})
    outcome = Hand().run()
    assert (outcome.kind, outcome.reason) == ("waits_for_code", FailureReason.UNKNOWN_JOB)
    assert "'test-eco': did you mean 'test-echo'?" in outcome.message
    assert handle.state == JobState.WAITING


def newer(value: Any, plan: str) -> None:
    raise AssertionError("it must not be called")


def test_a_changed_signature_waits_for_a_worker_that_has_another_one(bench: Bench) -> None:
    handle = bench.enqueue(give_back, {"value": 1})
    registry._jobs["bench"] = define("bench", newer)  # as after a deployment
    outcome = Hand().run()
    assert (outcome.kind, outcome.reason) == ("waits_for_code", FailureReason.BAD_PAYLOAD)
    assert outcome.message == "bench: missing argument 'plan'"
    assert handle.state == JobState.WAITING
    registry._jobs["bench"] = define("bench", give_back)
    assert Hand(name="other", code="other").run().kind == "completed"


# --- data of other versions -----------------------------------------------------------------------


def as_list(data: dict[str, Any]) -> dict[str, Any]:
    return {"value": [data["value"]]}


def broken_step(data: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("gone")


def bad_step(data: dict[str, Any]) -> dict[str, Any]:
    return {"zeal": 1}


def test_older_data_are_upgraded(bench: Bench) -> None:
    handle = bench.enqueue(give_back, {"value": 1})
    registry._jobs["bench"] = define("bench", give_back, version=2, upgrade={1: as_list})
    Hand().run()
    assert handle.result == [1]


def test_data_of_the_worker_s_own_version_are_not_upgraded(bench: Bench) -> None:
    outcome = bench.run(give_back, {"value": 1}, version=2, upgrade={1: as_list})
    assert outcome.result == "1"


def test_newer_data_wait(bench: Bench) -> None:
    bench.enqueue(give_back, {"value": 1}, version=2, upgrade={1: as_list})
    registry._jobs["bench"] = define("bench", give_back)
    outcome = Hand().run()
    assert (outcome.kind, outcome.reason) == ("waits_for_code", FailureReason.UNKNOWN_JOB)
    assert outcome.message == "bench: the data have version 2, and this worker knows version 1"


def test_a_step_that_raises_is_an_attempt_that_failed(bench: Bench) -> None:
    bench.enqueue(give_back, {"value": 1})
    registry._jobs["bench"] = define("bench", give_back, version=2, upgrade={1: broken_step})
    outcome = Hand().run()
    assert (outcome.kind, outcome.message) == ("retried", "'gone'")
    assert "broken_step" in outcome.traceback


def test_a_step_whose_data_do_not_fit_is_a_dead_letter(bench: Bench) -> None:
    bench.enqueue(give_back, {"value": 1})
    registry._jobs["bench"] = define("bench", give_back, version=2, upgrade={1: bad_step})
    outcome = Hand().run()
    assert (outcome.kind, outcome.reason) == ("failed", FailureReason.BAD_PAYLOAD)
    assert outcome.message.startswith("bench: unknown argument 'zeal'")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("not json", "is not the JSON that enqueue wrote"),
        ("[1,2]", "is not the JSON that enqueue wrote"),
        ('["p",null,[],[1]]', "is list, not an object"),
        ('["p",null,[],{"value":{"$date":"no"}}]', "has a broken $date"),
        ('["p",null,[],{"value":{"$later":"x"}}]', "unknown tag '$later'"),
        ('["p",null,[],{"value":{"$encrypted":"x"}}]', ""),
    ],
)
def test_data_that_cannot_be_read_back_fails(
    bench: Bench, redis_client: redis.Redis, data: str, text: str
) -> None:
    handle = bench.enqueue(give_back, {"value": 1})
    redis_client.hset(keys.job(handle), "data", data)
    outcome = Hand().run()
    assert (outcome.kind, outcome.reason) == ("failed", FailureReason.BAD_PAYLOAD)
    assert text in handle.error


def test_data_under_a_removed_key_fails_without_showing_the_value(
    settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        handle = secret.enqueue(token="s3cret-value")
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": ["b3RoZXIgdGhpcnR5LXR3byBieXRlcyBmb3IgdGVzdHM="]}
    outcome = Hand().run()
    assert (outcome.kind, outcome.reason) == ("failed", FailureReason.BAD_PAYLOAD)
    assert "s3cret" not in outcome.detail() and handle.error


# --- results --------------------------------------------------------------------------------------


def make(size: int) -> str:
    return "x" * size


def make_a_set() -> set[int]:
    logging.getLogger("shop").warning("the work is done")
    return {1}


def test_a_result_that_is_too_large_fails_once_and_says_what_to_do(bench: Bench) -> None:
    assert bench.run(make, {"size": 65_000}).kind == "completed"
    outcome = bench.run(make, {"size": 70_000})
    assert (outcome.kind, outcome.reason) == ("failed", FailureReason.BAD_RESULT)
    assert (
        "The result is 70,002 bytes" in outcome.message
        and "store it and return an id instead" in outcome.message
    )


def test_a_result_that_cannot_be_carried_fails(bench: Bench) -> None:
    """Once, with a record of what was done: the error shows the result, the log is kept."""
    outcome = bench.run(make_a_set)
    assert (outcome.kind, outcome.reason) == ("failed", FailureReason.BAD_RESULT)
    assert outcome.error_class == "wellos_jobs.errors.ResultNotStored"
    assert outcome.message == (
        "The job has done its work, but its result cannot be stored: result is a set: pass a sorted"
        " list. It returned {1}. A replay does the work again"
    )
    assert "the work is done" in str(outcome.log["log"])


class Hostile:
    def __repr__(self) -> str:
        raise SystemExit("repr() is code of the project")


def make_an_object(token: str = "") -> Any:
    return {"token": token, "object": Hostile()}


def test_a_result_that_cannot_be_carried_is_shown_without_running_its_code(bench: Bench) -> None:
    outcome = bench.run(make_an_object)
    assert "It returned {'object': <Hostile>, 'token': ''}" in outcome.message
    outcome = bench.run(make_an_object, {"token": "s3cret-value"}, sensitive=("token",))
    assert "It returned a dict. A replay" in outcome.message


# --- secrets --------------------------------------------------------------------------------------


def leak(token: str, how: str) -> None:
    if how == "chain":
        try:
            raise KeyError(token)
        except KeyError as error:
            raise RuntimeError("the service said no") from error
    if how == "group":
        raise ExceptionGroup(f"with {token}", [ValueError(token)])
    if how == "note":
        error = ValueError("see the note")
        error.add_note(f"token={token}")
        raise error
    if how == "snooze":
        raise Snooze(1, f"waiting for {token}")
    if how == "discard":
        raise Discard(f"{token} is not valid")
    report_progress(50, f"using {token}")
    raise ValueError(json.dumps({"token": token}))


@pytest.mark.parametrize("how", ["chain", "group", "note", "snooze", "discard", "json"])
@pytest.mark.parametrize("token", ["s3cret-value", 'qu"ote\\s3cret\n', "ünïcode-s3cret"])
def test_secrets_are_in_no_message_and_no_traceback(
    bench: Bench, redis_client: redis.Redis, how: str, token: str
) -> None:
    handle = bench.enqueue(leak, {"token": token, "how": how}, sensitive=("token",))
    outcome = Hand().run()
    texts = outcome.message + outcome.traceback + outcome.detail()
    stored = repr(redis_client.hgetall(keys.job(handle))) + repr(redis_client.xrange(keys.EVENTS))
    assert "s3cret" not in texts and "s3cret" not in stored
    if how != "chain":
        assert "********" in texts


# --- tracebacks -----------------------------------------------------------------------------------


def deep(levels: int) -> None:
    if levels:
        deep(levels - 1)
    raise ValueError("x" * 5_000 + "\x00\ud800")


def test_a_traceback_begins_in_the_job_and_is_cut_in_the_middle(bench: Bench) -> None:
    outcome = bench.run(deep, {"levels": 5})
    assert outcome.traceback.startswith("Traceback (most recent call last):\n  File")
    first_frame = outcome.traceback.splitlines()[1]
    assert "test_execution.py" in first_frame and "in deep" in first_frame
    assert len(outcome.message) < 2_100 and "characters left out" in outcome.message
    assert "\x00" not in outcome.message and outcome.message.encode()
    long = bench.run(deep, {"levels": 900})
    assert len(long.traceback) < 33_000


# --- the context ----------------------------------------------------------------------------------


def look_around() -> dict[str, Any]:
    job = current_job()
    return {
        "id": job.id,
        "name": job.name,
        "queue": job.queue,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "organization_id": job.organization_id,
        "database": job.database,
    }


async def look_around_later() -> dict[str, Any]:
    await asyncio.sleep(0)
    return await asyncio.to_thread(look_around)


@pytest.mark.parametrize("function", [look_around, look_around_later])
def test_current_job_inside_a_run(bench: Bench, function: Callable[..., Any]) -> None:
    registry.register(define("bench", function, max_attempts=4))
    with bench.commit():
        handle = enqueue("bench", {}, JobOptions(queue="email", organization="acme"))
    Hand().run()
    assert handle.result == {
        "id": str(handle),
        "name": "bench",
        "queue": "email",
        "attempt": 1,
        "max_attempts": 4,
        "organization_id": "acme",
        "database": "default",
    }
    with pytest.raises(InvalidOperation, match="No job is running here"):
        current_job()
    assert current_job(None) is None


def put_another() -> str:
    return str(echo.enqueue("child"))


def test_a_job_enqueued_by_a_job_knows_its_parent(bench: Bench) -> None:
    handle = bench.enqueue(put_another)
    Hand().run()
    child = JobRecord.objects.get(pk=handle.result)
    assert child.context == {"enqueued_by": str(handle)}


# --- the alarm ------------------------------------------------------------------------------------


def wait_long(seconds: float = 20.0) -> None:
    time.sleep(seconds)


async def wait_long_later(seconds: float = 20.0) -> None:
    await asyncio.sleep(seconds)


def swallow_once(log: list[str] | None = None) -> None:
    try:
        time.sleep(20)
    except BaseException:  # what careless code does
        time.sleep(20)


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize("function", [wait_long, wait_long_later, swallow_once, spin])
def test_a_run_ends_at_its_timeout_whatever_it_does(
    bench: Bench, function: Callable[..., Any]
) -> None:
    started = time.monotonic()
    outcome = bench.run(function, timeout=0.2)
    assert 0.2 <= time.monotonic() - started < 4
    assert (outcome.kind, outcome.reason) == ("retried", FailureReason.TIMEOUT)
    assert outcome.message == "The job ran longer than its timeout of 0.2 seconds"
    assert outcome.error_class == "wellos_jobs.errors.JobTimeout"


def test_the_last_timeout_is_the_reason_of_the_dead_letter(bench: Bench) -> None:
    outcome = bench.run(wait_long, timeout=0.05, max_attempts=1)
    assert (outcome.kind, outcome.reason) == ("failed", FailureReason.TIMEOUT)


def test_after_a_run_no_timer_is_left(bench: Bench) -> None:
    assert bench.run(give_back, timeout=0.2).kind == "completed"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    timer = RunTimer()
    assert timer.interrupt(JobStopped()) is False
    with pytest.raises(ValueError, match="broken"):
        timer.call(throw, {"what": "plain"}, 0.2)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("error", "kind"), [(JobStopped(), "canceled"), (JobHandedBack(), "handed_back")]
)
@pytest.mark.parametrize("function", [wait_long, swallow_once])
def test_an_order_from_outside_ends_the_run(
    bench: Bench, error: BaseException, kind: str, function: Callable[..., Any]
) -> None:
    bench.enqueue(function)
    hand = Hand()
    previous = signal.signal(signal.SIGUSR1, lambda *_: hand.timer.interrupt(error))
    main = threading.main_thread().ident
    timer = threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGUSR1])
    timer.start()
    try:
        claim = hand.take()
        started = time.monotonic()
        outcome = run(claim, hand.timer)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, previous)
    assert outcome.kind == kind
    assert time.monotonic() - started < 4
    assert hand.settle(claim, outcome)


def test_a_job_handed_back_does_not_lose_an_attempt_and_runs_first(bench: Bench) -> None:
    handle = bench.enqueue(give_back, {"value": 1})
    hand = Hand()
    claim = hand.take()
    with bench.commit():
        echo.enqueue("later")
    hand.settle(claim, Outcome("handed_back"))
    again = hand.take()
    assert (again.id, again.attempt) == (str(handle), 1)


def test_outside_the_main_thread_a_run_has_no_timer(bench: Bench) -> None:
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.append(RunTimer().call(lambda value: value, {"value": 7}, 0.01))
    )
    thread.start()
    thread.join(10)
    assert results == [7]


# --- database connections -------------------------------------------------------------------------


def break_connection() -> None:
    connection.ensure_connection()
    connection.errors_occurred = True


def tell_whether_connected() -> bool:
    return connection.connection is not None


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_connection_that_broke_before_a_run_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.enqueue(tell_whether_connected)
    claim = Hand().take()
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    break_connection()
    assert json.loads(run(claim, RunTimer()).result) is False


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_connection_that_breaks_in_a_run_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.enqueue(break_connection)
    claim = Hand().take()
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    run(claim, RunTimer())
    assert not tell_whether_connected()


def test_a_run_costs_no_query(bench: Bench) -> None:
    bench.enqueue(give_back)
    with CaptureQueriesContext(connections["default"]) as queries:
        Hand().run()
    assert len(queries) == 0


def test_run_raises_nothing_whatever_the_claim() -> None:
    claim = Claim(
        *("id", "no-such-job", b"", "default", 1, 1, 5.0, "default", 0, "", "", "", "run", None, 5),
    )
    assert run(claim, RunTimer()).reason is FailureReason.UNKNOWN_JOB
    assert sys.exc_info() == (None, None, None)
