"""A circuit breaker for an HTTP service that fails on demand: real workers, HTTP on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import redis

from example_project.demo.books import Mood
from example_project.demo.partner import Partner
from wellos_jobs.broker import keys
from wellos_jobs.models import JobAttempt, JobRecord

from ..support.guarded_jobs import post_to_books
from ..support.processes import Fleet
from ..support.rows import all_have_state

pytestmark = pytest.mark.any_database

BREAKER = keys.breaker("b:books")
PARKED = keys.parked("b:books")
RESET = 1.0
COUNT = 10


@pytest.fixture
def partner() -> Iterator[Partner]:
    partner = Partner()
    partner.start()
    try:
        yield partner
    finally:
        partner.stop()


def sync(partner: Partner) -> None:
    post_to_books.enqueue_bulk(
        [{"url": f"{partner.url}/books", "number": number} for number in range(COUNT)]
    )


@pytest.mark.parametrize(
    "mood", [Mood.BROKEN, Mood.BUSY, Mood.HANGS_UP, Mood.SLOW], ids=lambda mood: mood.name.lower()
)
def test_it_opens_parks_and_closes_again(
    processes: Fleet, partner: Partner, redis_client: redis.Redis, mood: Mood
) -> None:
    partner.books.misbehave(mood)
    processes.worker("--processes", "2")
    sync(partner)
    processes.wait_until(lambda: redis_client.exists(BREAKER) and redis_client.zcard(PARKED), 40)
    partner.books.behave()
    processes.wait_until(lambda: all_have_state("completed", COUNT), 40)
    assert not redis_client.exists(BREAKER) and not redis_client.exists(PARKED)
    assert len(partner.books.entries) == COUNT, "each once, though some were posted again"
    bad = [call for call in partner.books.calls if call.mood is mood]
    assert len(bad) >= 3 and len(partner.books.calls) == len(bad) + COUNT
    assert JobAttempt.objects.filter(outcome="retried").count() == len(bad), "none for waiting"


def test_a_probe_that_fails_opens_it_again(
    processes: Fleet, partner: Partner, redis_client: redis.Redis
) -> None:
    partner.books.misbehave(Mood.BROKEN, calls=5)
    processes.worker("--processes", "1")
    sync(partner)
    processes.wait_until(lambda: all_have_state("completed", COUNT), 40)
    assert partner.books.statuses() == [500] * 5 + [200] * COUNT
    gaps = [later.at - earlier.at for earlier, later in pairwise(partner.books.calls)]
    assert min(gaps[2:5]) >= RESET, "after three failures a probe a second, until one goes well"
    assert JobRecord.objects.filter(attempts__gt=4).count() == 0


def test_an_outage_of_some_seconds_is_waited_out(processes: Fleet, partner: Partner) -> None:
    """Without any action, a probe finds that the service is back."""
    partner.books.misbehave(Mood.AWAY, seconds=2)
    processes.worker("--processes", "2")
    sync(partner)
    processes.wait_until(lambda: all_have_state("completed", COUNT), 40)
    assert 503 in partner.books.statuses()
    assert partner.books.statuses()[-COUNT:] == [200] * COUNT
