"""What a job forks: it is no worker, whatever it does, and signals end it as any process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django_rq
import pytest
import redis

from wellos_jobs.broker import keys
from wellos_jobs.models import JobRecord

from ..jobs import scripted
from ..support.journal import Journal
from ..support.processes import Fleet, is_alive
from ..support.rough_jobs import foreign_fork, fork, fork_async, use_pool
from ..support.rows import attempts, has_state, row

pytestmark = pytest.mark.any_database

HOW = ["returns", "raises", "exits"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("function", [fork, fork_async])
def test_a_fork_that_comes_back_ends_and_settles_nothing(
    processes: Fleet, journal: Journal, tmp_path: Path, function: Any, how: str
) -> None:
    """Nor does it end the connections that it shares with the worker."""
    before = scripted.enqueue(steps=["query"])
    handle = function.enqueue(how=how, path=str(tmp_path / "child"))
    after = [before, *scripted.enqueue_bulk([{"steps": ["query"]}] * 5)]
    worker = processes.worker("--burst")
    assert worker.wait() == 0
    assert has_state(handle, "completed")
    assert (row(handle).result, attempts(handle)) == ("parent", [])
    assert all(has_state(each, "completed") for each in after)

    child = int((tmp_path / "child").read_text())
    assert f"job={handle} forked process {child}, which has come back" in worker.output()
    assert ("the child's own error" in worker.output()) == (how == "raises")
    assert worker.output().count(f"completed {function.name} job={handle}") == 1


@pytest.mark.parametrize("how", HOW)
def test_a_fork_of_a_job_of_plain_rq_code(
    processes: Fleet, tmp_path: Path, redis_client: redis.Redis, how: str
) -> None:
    job = django_rq.enqueue(foreign_fork, how, str(tmp_path / "child"))
    worker = processes.worker("--burst")
    assert worker.wait() == 0
    assert JobRecord.objects.get(rq_id=job.id).result == "parent"
    assert job.get_status() == "finished"
    assert redis_client.zcard(keys.failed("default")) == 0
    assert f"job={job.id} forked process" in worker.output()


def test_a_pool_of_processes_can_be_terminated(processes: Fleet) -> None:
    """Its forks have no handler of the worker, and no signal is blocked in them."""
    handles = [use_pool.enqueue() for _ in range(3)]
    worker = processes.worker()
    for handle in handles:
        processes.wait_until(lambda handle=handle: has_state(handle, "completed"))  # type: ignore[misc]
        assert row(handle).result == {"handled": [], "blocked": []}
    children = worker.children()
    worker.terminate()
    assert worker.wait() == 0
    assert not any(map(is_alive, children))
