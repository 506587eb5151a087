"""The demo's output on terminals and elsewhere, and its table."""

from __future__ import annotations

import io
import os
import pty
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from example_project.demo.display import Display, summary, table, took
from wellos_jobs import JobState
from wellos_jobs.models import JobAttempt, JobRecord

NOW = timezone.now()


def record(name: str, state: JobState, **fields: object) -> JobRecord:
    return JobRecord(name=name, queue="default", state=state, created_at=NOW, **fields)


def on_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what arrives at a terminal of this width."""
    monkeypatch.setenv("COLUMNS", str(columns))
    leader, follower = pty.openpty()
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(os.read(leader, 10_000)))
    with os.fdopen(follower, "w") as stream:
        display = Display(stream)
        display.progress("x" * 100)
        display.progress("two")
        display.line("a line that stays")
        reader.start()
        reader.join(10)
    os.close(leader)
    return received[0].decode()


def test_on_a_terminal_the_progress_is_one_truncated_line(monkeypatch: pytest.MonkeyPatch) -> None:
    erase = "\r\x1b[2K"
    assert (
        on_terminal(40, monkeypatch) == f"{erase}{'x' * 39}{erase}two{erase}a line that stays\r\n"
    )


def test_without_a_terminal_progress_is_a_few_plain_lines(tmp_path: Path) -> None:
    stream = io.StringIO()
    display = Display(stream)
    display.progress("one")
    display.progress("two")
    display.line("a line that stays")
    display.done()
    assert stream.getvalue() == "one\na line that stays\n"


def test_duration_with_and_without_the_installation() -> None:
    assert took(16.64, None) == "16.6 s in all"
    assert took(16.64, 35.2) == "16.6 s in all, 35 s since `make demo`"


def test_summary_counts_states_and_lists_active_jobs() -> None:
    records = [
        record("a", JobState.COMPLETED),
        record("b", JobState.COMPLETED),
        record("c", JobState.WAITING),
        record("d", JobState.ACTIVE, progress=40, progress_message="rendering"),
    ]
    assert summary(records) == "1 waiting · 1 active · 2 completed · d 40 % rendering"


def test_table_shows_wait_until_the_first_start_and_the_time_of_the_last_run(db: None) -> None:
    def after(seconds: float) -> object:
        return NOW + timedelta(seconds=seconds)

    retried = record(
        "retried", JobState.COMPLETED, started_at=after(9), finished_at=after(9.5), run_at=after(8)
    )
    reminder = record(
        "reminder",
        JobState.COMPLETED,
        run_at=after(5),
        started_at=after(5.25),
        finished_at=after(6),
    )
    waiting = record("waiting", JobState.WAITING)
    JobRecord.objects.bulk_create([retried, reminder, waiting])
    JobAttempt.objects.create(
        job=retried, number=1, outcome="retried", started_at=after(1), ended_at=after(2)
    )
    lines = [line.split() for line in table([retried, reminder, waiting], {retried.pk: "acme"})]
    assert lines[0] == ["job", "for", "queue", "state", "attempts", "wait", "run"]
    assert lines[2:] == [
        ["retried", "acme", "default", "completed", "2", "1.00", "s", "0.50", "s"],
        ["reminder", "default", "completed", "1", "0.25", "s", "0.75", "s"],
        ["waiting", "default", "waiting", "0"],
    ]
