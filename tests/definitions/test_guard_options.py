"""Invalid options of guards, flows and batches: errors name the thing, the value and the fix."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from wellos_jobs import Batch, CircuitBreaker, Concurrency, Flow, RateLimit, Unique, errors, job
from wellos_jobs.definitions.validation import define

from ..jobs import noop
from ..support.guarded_jobs import keyed, once_by_key, per_account


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Concurrency(0), "Concurrency: n is 0: it must be a whole number of at least 1"),
        (lambda: Concurrency(True), "Concurrency: n is True"),
        (lambda: Concurrency(1.5), "Concurrency: n is 1.5"),  # type: ignore[arg-type]
        (lambda: Concurrency(1, key=""), "Concurrency: key is ''"),
        (lambda: Concurrency(1, key=7), "Concurrency: key is 7"),  # type: ignore[arg-type]
        (lambda: Concurrency(1, key="of {account"), "key is 'of {account'"),
        (lambda: RateLimit(), "RateLimit: no rate is given: give at least one, such as '10/s'"),
        (lambda: RateLimit("10/s", "1/min", weight=2), "weight 2 is above the rate '1/min'"),
        (
            lambda: RateLimit("fast"),
            "RateLimit: 'fast' is not a valid rate: use the form '10/s', '100/min' or '5/30s'",
        ),
        (lambda: RateLimit("0/s"), "RateLimit: '0/s' is not a valid rate"),
        (lambda: RateLimit("10/0s"), "RateLimit: '10/0s' is not a valid rate"),
        (lambda: RateLimit("-1/s"), "RateLimit: '-1/s' is not a valid rate"),
        (lambda: RateLimit("10/fortnight"), "RateLimit: '10/fortnight' is not a valid rate"),
        (lambda: RateLimit(10), "RateLimit: 10 is not a valid rate"),  # type: ignore[arg-type]
        (lambda: RateLimit("10/s", weight=0), "RateLimit: weight is 0"),
        (
            lambda: RateLimit("10/s", weight=11),
            "weight 11 is above the rate '10/s', so the job could never start: give a smaller",
        ),
        (lambda: Unique(ttl=0), "Unique: ttl is 0: it must be above 0 seconds"),
        (lambda: Unique(ttl=-1), "Unique: ttl is -1"),
        (lambda: Unique(ttl=timedelta(0)), "Unique: ttl is"),
        (lambda: Unique(ttl="1h"), "Unique: ttl is '1h': give a number of seconds or a timedelta"),  # type: ignore[arg-type]
        (lambda: Unique(ttl=float("nan")), "Unique: ttl is nan"),
        (lambda: Unique(ttl=True), "Unique: ttl is True"),
        (lambda: Unique(ttl=None), "so no second job could ever be enqueued: give ttl or until"),
        (
            lambda: Unique(until="finished"),
            "Unique: until is 'finished': it must be 'started', 'done' or None",
        ),  # type: ignore[arg-type]
        (lambda: Unique(key=""), "Unique: key is ''"),
        (lambda: CircuitBreaker(""), "CircuitBreaker: name is ''"),
        (lambda: CircuitBreaker("x", failures=0), "CircuitBreaker: failures is 0"),
        (
            lambda: CircuitBreaker("x", within=0),
            "CircuitBreaker: within is 0: it must be above 0 seconds",
        ),
        (lambda: CircuitBreaker("x", reset="soon"), "CircuitBreaker: reset is 'soon'"),  # type: ignore[arg-type]
        (
            lambda: CircuitBreaker("x", on=ValueError),
            "CircuitBreaker: on is <class 'ValueError'>: give a tuple",
        ),  # type: ignore[arg-type]
        (lambda: CircuitBreaker("x", on=("no",)), "CircuitBreaker: on has 'no'"),  # type: ignore[arg-type]
    ],
)
def test_invalid_guards(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("rate", "most", "period"),
    [
        ("10/s", 10, 1),
        ("100/min", 100, 60),
        ("5/30s", 5, 30),
        ("2/0.5s", 2, 0.5),
        ("7 / 2 hours", 7, 7200),
        ("1/day", 1, 86400),
    ],
)
def test_rates(rate: str, most: int, period: float) -> None:
    limit = RateLimit(rate)
    assert (limit.most, limit.period) == (most, period)


def work_on(account: str, token: str = "") -> None:
    """The job of the declarations below."""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limits": [Concurrency(1, key="{acount}")]}, "use one of organization, account, token"),
        ({"unique": Unique(key="{acount}")}, "key '{acount}' has the unknown field 'acount'"),
        ({"limits": [Concurrency(1, key="{account.pk}")]}, "has the unknown field 'account.pk'"),
        (
            {"limits": "one"},
            "limits is 'one': give a list of Concurrency, RateLimit and CircuitBreaker",
        ),
        ({"limits": [Unique()]}, "give a list of Concurrency, RateLimit and CircuitBreaker"),
        ({"unique": Concurrency(1)}, "give a Unique(...)"),
        ({"limit": [Concurrency(1)]}, "did you mean 'limits'"),
        (
            {"limits": [RateLimit("1/s", key="by {token}")], "sensitive": ("token",)},
            "contains the sensitive argument 'token', and keys of limits are stored as plain text",
        ),
    ],
)
def test_invalid_declarations(options: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.BadOption) as caught:
        define("test-options", work_on, **options)
    assert "test-options" in str(caught.value) and text in str(caught.value)


def test_a_single_limit_needs_no_list() -> None:
    assert define("test-options", work_on, limits=Concurrency(1)).limits == (Concurrency(1),)


def test_a_sensitive_value_may_make_a_job_unique() -> None:
    """Its key is an HMAC, which reveals nothing."""
    define("test-options", work_on, unique=Unique(key="{token}"), sensitive=("token",))


def test_a_key_function_must_return_a_text() -> None:
    with pytest.raises((ValueError, IndexError)):
        keyed.enqueue(word="")
    with pytest.raises(
        ValueError,
        match="the key function of test-options returned 7: it must return a non-empty text",
    ):
        Concurrency(1, key=lambda data: 7).wire("test-options", {}, "")  # type: ignore[arg-type, return-value]


def test_guards_as_the_scripts_read_them() -> None:
    data = {"account": "main"}
    assert Concurrency(2).wire("job", data, "") == {"id": "c:job", "n": 2}
    assert RateLimit("10/s", key="{account}", weight=2).wire("job", data, "") == {
        "id": "r:main/1",
        "n": 10,
        "p": 1,
        "w": 2,
    }
    assert Concurrency(1, key="{{x}}{organization}").wire("job", data, "acme")["id"] == "c:{x}acme"
    assert CircuitBreaker("q", reset=timedelta(minutes=1)).wire("job", data, "") == {
        "id": "b:q",
        "b": 5,
        "within": 60,
        "reset": 60,
    }
    assert {job.definition.name for job in (once_by_key, per_account)} == {
        "test-once-by-key",
        "test-per-account",
    }


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Flow(noop), "is not a job with data: use job.with_data(...)"),  # type: ignore[arg-type]
        (lambda: Flow(noop.with_data(), order="sideways"), "order is 'sideways'"),  # type: ignore[arg-type]
        (
            lambda: Flow(noop.with_data(), on_failure="shrug"),
            "on_failure is 'shrug': it must be one of cancel, run",
        ),
        (lambda: Flow(noop.with_data(), children=[noop]), "is not a job with data"),  # type: ignore[list-item]
        (lambda: Flow(noop.with_data()).enqueue(prioritty=1), "did you mean 'priority'?"),
        (
            lambda: noop.using(depends_on=["nothing"]).enqueue(),
            "depends_on has 'nothing': give handles or ids of jobs",
        ),
    ],
)
def test_invalid_flows(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(errors.BadOption) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.django_db
def test_unknown_batches() -> None:
    with pytest.raises(errors.JobNotFound):
        Batch.get("0b7c1f6e-30f1-4d5c-9a2c-0d2b5ff0a6c1")
    with pytest.raises(errors.JobNotFound):
        Batch.get("no id")
    with pytest.raises(errors.JobNotFound, match="enter its block first"):
        Batch(name="import").enqueue(noop)


@job("test-two-rates", limits=[RateLimit("10/s", "100/min", key="books", weight=2), Concurrency(3)])
def two_rates() -> None: ...


def test_each_of_several_rates_is_a_limit() -> None:
    wires = [limit.wire("two", {}, "") for limit in two_rates.definition.limits]
    assert [(wire["id"], wire["n"]) for wire in wires] == [
        ("r:books/1", 10),
        ("r:books/60", 100),
        ("c:two", 3),
    ]
    assert [wire.get("w") for wire in wires] == [2, 2, None]
