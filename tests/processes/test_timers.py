"""Growing pauses and periodic tasks of a process."""

from __future__ import annotations

import pytest

from wellos_jobs.processes import intervals
from wellos_jobs.processes.growing_pause import GrowingPause
from wellos_jobs.processes.intervals import IntervalTimer


def test_pauses_grow_up_to_the_longest() -> None:
    pause = GrowingPause(0.25, 2.0)
    assert [pause.next() for _ in range(5)] == [0.25, 0.5, 1.0, 2.0, 2.0]


def test_pauses_grow_by_the_factor() -> None:
    pause = GrowingPause(1.0, 10.0, factor=3)
    assert [pause.next() for _ in range(4)] == [1.0, 3.0, 9.0, 10.0]


def test_after_a_success_pauses_begin_again() -> None:
    pause = GrowingPause(1.0, 10.0)
    pause.next()
    pause.next()

    pause.reset()
    assert pause.next() == 1.0


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
