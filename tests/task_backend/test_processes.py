"""Tasks on real workers, and what other processes read of them."""

from __future__ import annotations

from typing import Any

from .. import tasks
from ..support.processes import Fleet, wait_until


def ended(result: Any) -> bool:
    result.refresh()
    return bool(result.is_finished)


def test_tasks_run_on_real_workers(processes: Fleet) -> None:
    results = [
        tasks.add.enqueue(1, b=5),
        tasks.add_later.enqueue(1, 2),
        tasks.fail_until.enqueue(3),
        tasks.fail.enqueue("broken"),
        tasks.tell.enqueue("x", y=1),
    ]
    added, later, retried, failed, told = results
    processes.worker("--processes", "2")
    wait_until(lambda: all(map(ended, results)), timeout=60, what="the ends of all tasks")

    assert (added.return_value, later.return_value) == (6, 3)
    assert (retried.return_value, retried.attempts, len(retried.errors)) == (3, 3, 2)
    assert (failed.status, failed.attempts, len(failed.errors)) == ("FAILED", 2, 2)
    assert failed.errors[-1].exception_class is ValueError
    assert told.return_value["id"] == told.id
    assert told.return_value["workers"] == told.worker_ids
    assert all(worker for result in results for worker in result.worker_ids)
