"""Jobs with guards, for the tests of coordination. ``steps`` are those of ``scripted``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.request import Request, urlopen

from wellos_jobs import (
    Batch,
    CircuitBreaker,
    Concurrency,
    RateLimit,
    Unique,
    current_job,
    fixed,
    job,
)

from ..jobs import noop, scripted

RETRIES = fixed(0.01)


# --- limits ---------------------------------------------------------------------------------------


@job("limited-job", limits=[Concurrency(2), RateLimit("10/s")])
def limited(steps: Sequence[str] = (), journal: str = "") -> Any:
    return scripted(steps, journal)


@job("test-single", limits=[Concurrency(1)], backoff=RETRIES)
def single(steps: Sequence[str] = (), journal: str = "") -> Any:
    return scripted(steps, journal)


@job("test-double", limits=[Concurrency(2)])
def double(steps: Sequence[str] = (), journal: str = "") -> Any:
    return scripted(steps, journal)


@job("test-tight", limits=[Concurrency(1), RateLimit("1/1000s")])
def tight() -> None:
    """Start once in 1,000 s."""


@job("test-new")
def new() -> None:
    """A job that workers with older code do not know."""


@job("test-new-metered", limits=[Concurrency(1), RateLimit("3/1000s", key="meter")])
def new_metered() -> None:
    """The same, with limits."""


@job("test-rated", limits=[RateLimit("3/0.4s")])
def rated() -> None:
    """Start three times in any 0.4 s."""


@job("test-light", limits=[RateLimit("4/0.4s", key="scales")])
def light() -> None:
    """Count one at the scales."""


@job("test-heavy", limits=[RateLimit("4/0.4s", key="scales", weight=3)])
def heavy() -> None:
    """Count three at the scales."""


@job(
    "test-per-account",
    limits=[Concurrency(2, key="accounts"), Concurrency(1, key="account:{account}")],
)
def per_account(account: str = "main", steps: Sequence[str] = (), journal: str = "") -> Any:
    return scripted(steps, journal)


@job("test-per-organization", limits=[Concurrency(1, key="of:{organization}")])
def per_organization() -> None:
    """Run once at a time for each organization."""


@job("test-keyed", limits=[Concurrency(1, key=lambda data: f"first letter {data['word'][0]}")])
def keyed(word: str) -> None:
    """Run once at a time for each first letter."""


# --- breakers -------------------------------------------------------------------------------------


@job(
    "test-partner",
    limits=[CircuitBreaker("partner", failures=2, within=60, reset=3)],
    max_attempts=5,
    backoff=RETRIES,
)
def partner(steps: Sequence[str] = (), journal: str = "") -> Any:
    return scripted(steps, journal)


@job(
    "test-picky",
    limits=[CircuitBreaker("picky", failures=1, reset=30, on=(KeyError,))],
    max_attempts=1,
)
def picky(steps: Sequence[str] = ()) -> Any:
    return scripted(steps)


# --- unique ---------------------------------------------------------------------------------------


@job("test-once", unique=Unique(ttl=3600))
def once(number: int = 0, steps: Sequence[str] = ()) -> Any:
    return scripted(steps)


@job("test-once-until-done", unique=Unique(until="done"), max_attempts=1)
def once_until_done(number: int = 0, steps: Sequence[str] = ()) -> Any:
    return scripted(steps)


@job("test-once-more", unique=Unique(ttl=None, until="started"), limits=[Concurrency(1)])
def once_more(number: int = 0, steps: Sequence[str] = (), journal: str = "") -> Any:
    return scripted(steps, journal)


@job("test-once-by-key", unique=Unique(key="{organization}/{number}"))
def once_by_key(number: int = 7, note: str = "") -> None:
    """Be one for each organization and number, whatever the note."""


# --- flows and batches ----------------------------------------------------------------------------


@job("test-needs")
def needs() -> list[Any]:
    """Return the results of the jobs this one waited for."""
    return [handle.result for handle in current_job().needs]


@job("test-summary", queue="reports")
def summary(batch_id: str, journal: str = "") -> dict[str, Any]:
    return scripted([], journal) or {"batch": batch_id, **Batch.get(batch_id).progress}


@job("test-adds")
def adds(count: int) -> None:
    """Add jobs to the batch this one is in."""
    batch_id = current_job().batch_id
    assert batch_id is not None
    Batch.get(batch_id).enqueue_bulk(noop, [{}] * count)


# --- for the model of the engine: their periods never end by themselves ---------------------------


@job("test-metered", limits=[RateLimit("3/1000s", key="meter")])
def metered() -> None:
    """Count one at the meter."""


@job("test-metered-twice", limits=[RateLimit("3/1000s", key="meter", weight=2)])
def metered_twice() -> None:
    """Count two at the meter."""


@job("test-mixed", limits=[Concurrency(2, key="mixed"), RateLimit("3/1000s", key="meter")])
def mixed() -> None:
    """Be one of two at once, and count one at the meter."""


@job(
    "test-fragile",
    limits=[
        Concurrency(2, key="fragile"),
        CircuitBreaker("fragile", failures=2, within=1000, reset=1000),
    ],
)
def fragile() -> None:
    """Call a dependency that may be down."""


# --- bookkeeping: over real HTTP, to the server of the example ------------------------------------


@job(
    "test-books",
    limits=[
        RateLimit("50/s", key="books"),
        CircuitBreaker("books", failures=3, within=60, reset=1),
    ],
    max_attempts=6,
    backoff=fixed(0.05),
)
def post_to_books(url: str, number: int) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"invoice-{number}"}
    request = Request(
        url, data=json.dumps({"number": number}).encode(), headers=headers, method="POST"
    )
    with urlopen(request, timeout=0.5) as response:
        return json.load(response)
