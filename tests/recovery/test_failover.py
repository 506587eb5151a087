"""Failover to a replica with older data: what the rows know holds, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from wellos_jobs import JobHandle
from wellos_jobs.broker import keys
from wellos_jobs.models import DeadLetter, JobAttempt, JobRecord

from ..conftest import UseRedis
from ..jobs import scripted
from ..support.failover import FailoverPair
from ..support.journal import Journal
from ..support.processes import Fleet
from ..support.rows import has_state, row, statistics

pytestmark = pytest.mark.processes


@pytest.fixture
def pair(tmp_path: Path, use_redis: UseRedis) -> Iterator[FailoverPair]:
    with FailoverPair(tmp_path) as servers:
        use_redis(servers.url)
        yield servers


def states() -> Counter[str]:
    rows = JobRecord.objects.filter(name="test-scripted")
    return Counter(rows.values_list("state", flat=True))


def let_maintenance_look(processes: Fleet, pair: FailoverPair) -> None:
    """Let a leader have looked at the primary, as it has in any Redis that is in use."""
    keeper = processes.start("-m", "tests.support.run_maintenance")
    with pair.primary.client() as client:
        processes.wait_until(lambda: client.hexists(keys.TRUSTED, "run"))
    keeper.kill9()


def test_ended_jobs_are_not_run_again(
    processes: Fleet, journal: Journal, pair: FailoverPair
) -> None:
    """The replica has them waiting, delayed and failing once: the rows know better. Jobs that were
    enqueued there first are run."""
    let_maintenance_look(processes, pair)
    waiting = scripted.enqueue_bulk([{"journal": str(journal)}] * 30)
    delayed = scripted.using(delay=1).enqueue(journal=str(journal))
    failing = scripted.using(max_attempts=2).enqueue(
        steps=["raise:ValueError:always"], journal=str(journal)
    )
    retried = scripted.using(max_attempts=3).enqueue(
        steps=["before:2:retry:0", "before:3:retry:600"], journal=str(journal)
    )
    pair.stop_following()
    canceled = scripted.enqueue(steps=["sleep:0.3"], journal=str(journal))
    worker = processes.worker("--processes", "2")
    processes.wait_until(
        lambda: states() == {"completed": len(waiting) + 2, "failed": 1, "delayed": 1}, 30
    )
    before = statistics()
    runs = len(journal.starts())

    pair.fail_over()
    worker.wait_for_output("comparing its data with the rows")
    later = scripted.enqueue(journal=str(journal))
    processes.wait_until(lambda: has_state(later, "completed"), 30)
    processes.wait_until(lambda: not pair.replica.client().exists(keys.lane("default")))

    assert states() == {"completed": len(waiting) + 3, "failed": 1, "delayed": 1}
    assert len(journal.starts()) == runs + 1
    assert DeadLetter.objects.count() == 1
    assert has_state(delayed, "completed") and has_state(canceled, "completed")
    now = statistics()
    assert {name: now[name] - before[name] for name in now if now[name] != before[name]} == {
        "enqueued": 1,
        "started": 1,
        "completed": 1,
    }

    handles: list[JobHandle] = [failing, retried]
    for handle in handles:
        numbers = JobAttempt.objects.filter(job_id=handle.id).values_list("number", flat=True)
        assert sorted(numbers) == [1, 2]
    assert row(retried).attempts == 2
    with pair.replica.client() as client:
        assert client.hget(keys.job(retried.id), "w:attempt") == b"2"
