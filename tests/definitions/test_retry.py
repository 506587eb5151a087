"""Retry decisions: tables of (error, attempt) -> decision, and the waits of each backoff."""

from __future__ import annotations

import email.message
import http
import io
import math
import urllib.error
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from wellos_jobs.definitions.http_errors import MAX_RETRY_AFTER
from wellos_jobs.definitions.retry import (
    Backoff,
    Discard,
    Fail,
    JobTimeout,
    Retry,
    RetryAfter,
    RetryPolicy,
    Snooze,
    SnoozeFor,
    exponential,
    fixed,
)
from wellos_jobs.errors import (
    BadOption,
    EncryptionError,
    PayloadError,
    RedisUnavailable,
    UnknownJob,
)
from wellos_jobs.states import FailureReason

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AGAIN = RetryAfter(2.0)
GIVE_UP = Fail(FailureReason.NOT_RETRYABLE)
EXHAUSTED = Fail(FailureReason.EXHAUSTED)


class HttpError(Exception):
    """Stands for the exceptions of HTTP libraries: whatever attributes a case needs."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("the server said no")
        self.__dict__.update(attributes)


def response(**attributes: Any) -> SimpleNamespace:
    return SimpleNamespace(**attributes)


def urllib_error(status: int, headers: dict[str, str] | None = None) -> urllib.error.HTTPError:
    message = email.message.Message()
    for name, value in (headers or {}).items():
        message[name] = value
    return urllib.error.HTTPError("http://x", status, "no", message, io.BytesIO())


# --- backoff --------------------------------------------------------------------------------------


def test_exponential_without_jitter_waits_exactly_2_4_8_16_32() -> None:
    backoff = exponential(2, jitter=0)
    assert [backoff.delay(attempt, 0.9) for attempt in range(1, 6)] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("backoff", "attempt", "random", "expected"),
    [
        (exponential(2), 1, 0.5, 2.0),
        (exponential(2), 1, 0.0, 1.8),
        (exponential(2), 3, 0.0, 7.2),
        (exponential(10, factor=3, jitter=0), 3, 0.0, 90.0),
        (exponential(10, factor=1, jitter=0), 9, 0.0, 10.0),
        (exponential(2, max=5, jitter=0), 3, 0.0, 5.0),
        (exponential(2, max=5), 3, 0.0, 4.5),
        (exponential(2, max=5, jitter=1), 3, 0.0, 0.0),
        (exponential(2, max=5, jitter=1), 3, 0.999, 5.0),
        (exponential(timedelta(minutes=1), max=timedelta(minutes=3), jitter=0), 2, 0.0, 120.0),
        (exponential(timedelta(minutes=1), max=timedelta(minutes=3), jitter=0), 3, 0.0, 180.0),
        (exponential(2, jitter=0), 100_000, 0.0, 86_400.0),
        (exponential(timedelta(days=2), jitter=0), 5, 0.0, 172_800.0),
        (exponential(2, jitter=0), 0, 0.0, 2.0),
        (fixed(7), 1, 0.0, 7.0),
        (fixed(7), 50, 0.9, 7.0),
        (fixed(0), 1, 0.0, 0.0),
        (fixed(10, jitter=0.5), 1, 0.0, 5.0),
        (fixed(10, jitter=0.5), 1, 0.75, 12.5),
        (fixed(timedelta(seconds=1.5)), 1, 0.0, 1.5),
    ],
)
def test_the_wait_of_a_backoff(
    backoff: Backoff, attempt: int, random: float, expected: float
) -> None:
    assert backoff.delay(attempt, random) == pytest.approx(expected)
    assert backoff(attempt, random) == backoff.delay(attempt, random)


def test_a_wait_is_never_negative_nor_above_its_max() -> None:
    backoff = exponential(3, factor=2.5, max=100, jitter=1)
    waits = [backoff.delay(attempt, step / 100) for attempt in range(1, 40) for step in range(100)]
    assert all(0 <= wait <= 100 for wait in waits)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: exponential(0), "base is 0"),
        (lambda: exponential(-1), "base is -1"),
        (lambda: exponential("2"), "base is '2'"),  # type: ignore[arg-type]
        (lambda: exponential(True), "base is True"),
        (lambda: exponential(math.nan), "base is nan"),
        (lambda: exponential(math.inf), "base is inf"),
        (lambda: exponential(2, factor=0.5), "factor is 0.5"),
        (lambda: exponential(2, factor=math.nan), "factor is nan"),
        (lambda: exponential(2, factor="3"), "factor is '3'"),  # type: ignore[arg-type]
        (lambda: exponential(2, max=1), "max is 1, below base 2"),
        (lambda: exponential(2, max=-1), "max is -1"),
        (lambda: exponential(2, jitter=1.5), "jitter is 1.5"),
        (lambda: exponential(2, jitter=-0.1), "jitter is -0.1"),
        (lambda: exponential(timedelta(days=36_500)), "base is datetime.timedelta"),
        (lambda: fixed(-1), "seconds is -1"),
        (lambda: fixed(None), "seconds is None"),  # type: ignore[arg-type]
        (lambda: fixed(1, jitter=2), "jitter is 2"),
    ],
)
def test_invalid_backoffs(make: Any, named: str) -> None:
    with pytest.raises(ValueError, match="^" + named.replace(".", r"\.")):
        make()


# --- what a job asks for --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "attempt", "expected"),
    [
        (Retry(), 1, RetryAfter(2.0)),
        (Retry(), 2, RetryAfter(4.0)),
        (Retry(after=0), 1, RetryAfter(0.0)),
        (Retry(after=45), 2, RetryAfter(45.0)),
        (Retry(after=timedelta(minutes=2)), 1, RetryAfter(120.0)),
        (Retry(after=45), 3, EXHAUSTED),
        (Snooze(30), 1, SnoozeFor(30.0)),
        (Snooze(timedelta(hours=1)), 2, SnoozeFor(3600.0)),
        (Snooze(30), 3, SnoozeFor(30.0)),
        (Snooze(30), 99, SnoozeFor(30.0)),
        (Discard("the invoice is gone"), 1, GIVE_UP),
        (Discard("the invoice is gone"), 3, GIVE_UP),
    ],
)
def test_what_a_job_asks_for(error: Exception, attempt: int, expected: object) -> None:
    assert RetryPolicy().decide(error, attempt) == expected


@pytest.mark.parametrize(
    "policy",
    [RetryPolicy(discard_on=(Exception,)), RetryPolicy(retry_on=(Exception,))],
)
def test_what_a_job_asks_for_wins_over_the_declared_classes(policy: RetryPolicy) -> None:
    assert policy.decide(Retry(after=9), 1) == RetryAfter(9.0)
    assert policy.decide(Snooze(9), 1) == SnoozeFor(9.0)
    assert policy.decide(Discard("no"), 1) == GIVE_UP


@pytest.mark.parametrize("kind", [Retry, Snooze])
@pytest.mark.parametrize(
    "after", [-1, "soon", True, math.nan, math.inf, timedelta(days=-1), timedelta.max]
)
def test_invalid_waits_of_retry_and_snooze(kind: Any, after: Any) -> None:
    with pytest.raises(ValueError, match="^after is "):
        kind(after=after)


def test_messages_are_kept() -> None:
    assert str(Retry(5, "the bank is closed")) == "the bank is closed"
    assert str(Snooze(5, message="not yet")) == "not yet"
    assert str(Discard("gone")) == "gone"
    assert Discard("gone").reason == "gone"
    assert str(JobTimeout(120)) == "The job ran longer than its timeout of 120 seconds"
    assert JobTimeout(1.5).seconds == 1.5


def test_ordinary_code_does_not_catch_a_timeout() -> None:
    assert not issubclass(JobTimeout, Exception)


# --- classification -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("refused"),
        ConnectionResetError(),
        TimeoutError(),
        OSError("disk"),
        RedisUnavailable("away"),
        ValueError("from the body"),
        TypeError("from the body"),
        KeyError("x"),
        BadOption("a job that enqueues wrongly"),
        RuntimeError(),
        MemoryError(),
        SystemExit(404),
        SystemExit(1),
        KeyboardInterrupt(),
        ExceptionGroup("several", [ValueError()]),
        JobTimeout(10),
        HttpError(status_code=429),
        HttpError(status_code=500),
        HttpError(status=503),
        HttpError(code=599),
        HttpError(response=response(status_code=502)),
        HttpError(response=response(status=504)),
        HttpError(status_code=http.HTTPStatus.SERVICE_UNAVAILABLE),
        HttpError(status_code=302),
        HttpError(status_code=True),
        HttpError(status_code="404"),
        HttpError(status_code=404.0),
        HttpError(status_code=40),
        HttpError(status_code=4040),
        HttpError(code="not_found"),
        HttpError(code=len),
        HttpError(response=None),
        HttpError(status_code=500, response=response(status_code=404)),
        urllib_error(503),
    ],
    ids=repr,
)
def test_retried_by_default(error: BaseException) -> None:
    assert RetryPolicy().decide(error, 1) == AGAIN


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (HttpError(status_code=400), FailureReason.NOT_RETRYABLE),
        (HttpError(status_code=401), FailureReason.NOT_RETRYABLE),
        (HttpError(status=403), FailureReason.NOT_RETRYABLE),
        (HttpError(code=404), FailureReason.NOT_RETRYABLE),
        (HttpError(status_code=408), FailureReason.NOT_RETRYABLE),
        (HttpError(status_code=499), FailureReason.NOT_RETRYABLE),
        (HttpError(response=response(status_code=422)), FailureReason.NOT_RETRYABLE),
        (HttpError(response=response(status=410)), FailureReason.NOT_RETRYABLE),
        (
            HttpError(status_code=None, response=response(status_code=404)),
            FailureReason.NOT_RETRYABLE,
        ),
        (HttpError(status_code=http.HTTPStatus.NOT_FOUND), FailureReason.NOT_RETRYABLE),
        (urllib_error(404), FailureReason.NOT_RETRYABLE),
        (ValidationError("wrong"), FailureReason.NOT_RETRYABLE),
        (ValidationError({"email": ["wrong"]}), FailureReason.NOT_RETRYABLE),
        (UnknownJob("nobody"), FailureReason.UNKNOWN_JOB),
        (PayloadError("broken"), FailureReason.BAD_PAYLOAD),
        (EncryptionError("no key"), FailureReason.BAD_PAYLOAD),
    ],
    ids=repr,
)
@pytest.mark.parametrize("attempt", [1, 3])
def test_given_up_by_default(error: BaseException, reason: FailureReason, attempt: int) -> None:
    assert RetryPolicy().decide(error, attempt) == Fail(reason)


def test_a_falsy_response_still_counts() -> None:
    class Refusal:
        status_code = 404

        def __bool__(self) -> bool:
            return False

    assert RetryPolicy().decide(HttpError(response=Refusal()), 1) == GIVE_UP


def test_an_exception_whose_attributes_raise_is_retried() -> None:
    class Awkward(Exception):
        @property
        def status_code(self) -> int:
            raise RuntimeError("no response yet")

        response = headers = status_code

    assert RetryPolicy().decide(Awkward(), 1) == AGAIN


class GatewayError(Exception):
    pass


class CardDeclined(GatewayError):
    pass


@pytest.mark.parametrize(
    ("policy", "error", "expected"),
    [
        (RetryPolicy(retry_on=(ValidationError,)), ValidationError("x"), AGAIN),
        (RetryPolicy(retry_on=(HttpError,)), HttpError(status_code=404), AGAIN),
        (RetryPolicy(retry_on=(KeyError,)), HttpError(status_code=404), GIVE_UP),
        (RetryPolicy(retry_on=(GatewayError,)), ValueError(), AGAIN),
        (RetryPolicy(discard_on=(CardDeclined,)), CardDeclined(), GIVE_UP),
        (RetryPolicy(discard_on=(GatewayError,)), CardDeclined(), GIVE_UP),
        (RetryPolicy(discard_on=(CardDeclined,)), GatewayError(), AGAIN),
        (
            RetryPolicy(retry_on=(GatewayError,), discard_on=(CardDeclined,)),
            CardDeclined(),
            GIVE_UP,
        ),
        (RetryPolicy(retry_on=(GatewayError,), discard_on=(CardDeclined,)), GatewayError(), AGAIN),
        (
            RetryPolicy(retry_on=(CardDeclined,), discard_on=(CardDeclined,)),
            CardDeclined(),
            GIVE_UP,
        ),
        (RetryPolicy(discard_on=(ConnectionError,)), ConnectionResetError(), GIVE_UP),
        (RetryPolicy(discard_on=(HttpError,)), HttpError(status_code=503), GIVE_UP),
        (RetryPolicy(discard_on=(Exception,)), JobTimeout(5), AGAIN),
        (RetryPolicy(discard_on=(JobTimeout,)), JobTimeout(5), Fail(FailureReason.TIMEOUT)),
        (RetryPolicy(discard_on=(Exception,)), PayloadError("x"), Fail(FailureReason.BAD_PAYLOAD)),
        (RetryPolicy(retry_on=(ValueError,)), PayloadError("x"), Fail(FailureReason.BAD_PAYLOAD)),
        (RetryPolicy(retry_on=(Exception,)), UnknownJob("x"), Fail(FailureReason.UNKNOWN_JOB)),
        (RetryPolicy(retry_on=(EncryptionError,)), EncryptionError("key not there yet"), AGAIN),
    ],
)
def test_what_a_job_declares(policy: RetryPolicy, error: BaseException, expected: object) -> None:
    assert policy.decide(error, 1) == expected


# --- counting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "own", "attempt", "expected"),
    [
        (3, None, 1, RetryAfter(2.0)),
        (3, None, 2, RetryAfter(4.0)),
        (3, None, 3, EXHAUSTED),
        (3, None, 4, EXHAUSTED),
        (1, None, 1, EXHAUSTED),
        (3, 5, 3, RetryAfter(8.0)),
        (3, 5, 4, RetryAfter(16.0)),
        (3, 5, 5, EXHAUSTED),
        (5, 1, 1, EXHAUSTED),
    ],
)
def test_attempts_count_from_one(
    declared: int, own: int | None, attempt: int, expected: object
) -> None:
    policy = RetryPolicy(max_attempts=declared)
    assert policy.decide(RuntimeError(), attempt, max_attempts=own) == expected


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_timeout_is_retried(attempt: int) -> None:
    assert isinstance(RetryPolicy().decide(JobTimeout(5), attempt), RetryAfter)


def test_the_last_timeout_is_the_reason() -> None:
    assert RetryPolicy().decide(JobTimeout(5), 3) == Fail(FailureReason.TIMEOUT)


def test_six_attempts_with_the_default_backoff_wait_2_4_8_16_32() -> None:
    policy = RetryPolicy(max_attempts=6)
    decisions = [policy.decide(ConnectionError(), attempt) for attempt in range(1, 7)]
    assert decisions == [*map(RetryAfter, (2.0, 4.0, 8.0, 16.0, 32.0)), EXHAUSTED]


def test_randomness_comes_from_outside() -> None:
    policy = RetryPolicy()
    assert policy.decide(ConnectionError(), 1, random=0.0) == RetryAfter(pytest.approx(1.8))
    assert policy.decide(ConnectionError(), 1, random=0.0) == policy.decide(
        ConnectionError(), 1, random=0.0
    )


# --- Retry-After ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (30, 30.0),
        ("-5", 0.0),
        ("999999999999", MAX_RETRY_AFTER),
        ("1e400", MAX_RETRY_AFTER),
        ("nan", 2.0),
        ("", 2.0),
        ("soon", 2.0),
        (None, 2.0),
        (format_datetime(NOW + timedelta(minutes=5), usegmt=True), 300.0),
        (format_datetime(NOW - timedelta(minutes=5), usegmt=True), 0.0),
        ("Sun, 01 Mar 2026 12:01:00 -0000", 60.0),
        ("Sun, 01 Mar 2026 14:01:00 +0200", 60.0),
        ("Sunday, 01-Mar-26 12:02:00 GMT", 120.0),
        ("Sun, 99 Mar 2026 12:01:00 GMT", 2.0),
    ],
)
def test_retry_after_wins_over_the_backoff(text: object, expected: float) -> None:
    error = HttpError(status_code=503, headers={"Retry-After": text})
    assert RetryPolicy().decide(error, 1, now=NOW) == RetryAfter(expected)


@pytest.mark.parametrize(
    "error",
    [
        HttpError(status_code=429, headers={"retry-after": "33"}),
        HttpError(status_code=429, headers={"X": "1", "RETRY-AFTER": "33"}),
        HttpError(response=response(status_code=429, headers={"Retry-After": "33"})),
        HttpError(status_code=429, headers=None, response=response(headers={"Retry-After": "33"})),
        HttpError(status_code=429, headers={}, response=response(headers={"Retry-After": "33"})),
        urllib_error(503, {"Retry-After": "33"}),
    ],
)
def test_where_the_header_is_found(error: Exception) -> None:
    assert RetryPolicy().decide(error, 2) == RetryAfter(33.0)


@pytest.mark.parametrize(
    ("error", "attempt", "expected"),
    [
        (HttpError(status_code=503, headers={"Retry-After": "33"}), 3, EXHAUSTED),
        (HttpError(status_code=404, headers={"Retry-After": "33"}), 1, GIVE_UP),
        (HttpError(status_code=503, headers=["Retry-After"]), 1, AGAIN),
        (HttpError(status_code=503, headers="Retry-After: 5"), 1, AGAIN),
        (HttpError(status_code=503, headers=response(items=7)), 1, AGAIN),
        (HttpError(status_code=503, headers=response(items=lambda: ["Retry-After"])), 1, AGAIN),
        (HttpError(status_code=503, headers=dict), 1, AGAIN),
    ],
)
def test_where_the_header_is_ignored(error: Exception, attempt: int, expected: object) -> None:
    assert RetryPolicy().decide(error, attempt) == expected


def test_a_date_is_ignored_without_a_clock() -> None:
    error = HttpError(status_code=503, headers={"Retry-After": "Sun, 01 Mar 2026 13:00:00 GMT"})
    assert RetryPolicy().decide(error, 1) == AGAIN


def test_what_the_job_asks_for_wins_over_the_header() -> None:
    error = Retry(after=5)
    error.headers = {"Retry-After": "33"}  # type: ignore[attr-defined]
    assert RetryPolicy().decide(error, 1) == RetryAfter(5.0)


# --- the policy itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_attempts": -1}, "max_attempts is -1"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"max_attempts": 2.0}, "max_attempts is 2.0"),
        ({"max_attempts": "3"}, "max_attempts is '3'"),
        ({"backoff": 5}, "backoff is 5"),
        ({"backoff": None}, "backoff is None"),
        ({"retry_on": ("ValueError",)}, "retry_on has 'ValueError'"),
        ({"retry_on": (int,)}, "retry_on has <class 'int'>"),
        ({"retry_on": None}, "retry_on has None"),
        ({"discard_on": (ValueError(),)}, r"discard_on has ValueError\(\)"),
    ],
)
def test_invalid_policies(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}"):
        RetryPolicy(**options)


def test_classes_may_be_given_as_one_class_or_a_list() -> None:
    policy = RetryPolicy(retry_on=KeyError, discard_on=[ValueError, OSError])  # type: ignore[arg-type]
    assert policy.retry_on == (KeyError,)
    assert policy.discard_on == (ValueError, OSError)
    assert hash(policy) == hash(RetryPolicy(retry_on=(KeyError,), discard_on=(ValueError, OSError)))
