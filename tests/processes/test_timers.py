"""Growing pauses and periodic tasks of a process."""

from __future__ import annotations

import pytest

from wellos_jobs.processes import intervals
from wellos_jobs.processes.backoff import Backoff
from wellos_jobs.processes.intervals import IntervalTimer


def test_pauses_grow_up_to_the_longest() -> None:
    backoff = Backoff(0.25, 2.0)
    assert [backoff.next() for _ in range(5)] == [0.25, 0.5, 1.0, 2.0, 2.0]


def test_pauses_grow_by_the_factor() -> None:
    backoff = Backoff(1.0, 10.0, factor=3)
    assert [backoff.next() for _ in range(4)] == [1.0, 3.0, 9.0, 10.0]


def test_after_a_success_pauses_begin_again() -> None:
    backoff = Backoff(1.0, 10.0)
    backoff.next()
    backoff.next()

    backoff.reset()
    assert backoff.next() == 1.0


def test_a_task_is_due_at_first_and_then_after_its_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(intervals.time, "monotonic", lambda: now)
    timer = IntervalTimer()
    assert timer.is_due("tick", 5.0)
    assert not timer.is_due("tick", 5.0)
    assert timer.is_due("renew", 1.0)

    now = 105.0
    assert timer.is_due("tick", 5.0)


def test_a_task_can_be_made_due() -> None:
    timer = IntervalTimer()
    assert timer.is_due("look", 60.0) and not timer.is_due("look", 60.0)

    timer.make_due("look")
    assert timer.is_due("look", 60.0)
