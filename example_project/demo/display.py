"""The demo's output: lines, a progress line on terminals, a table of jobs."""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from wellos_jobs import JobState
from wellos_jobs.models import JobAttempt, JobRecord

QUIET_SECONDS = 2.0
"""Seconds between two progress lines if the output is not a terminal."""

STATES = (JobState.WAITING, JobState.ACTIVE, JobState.DELAYED, JobState.FAILED, JobState.COMPLETED)


class Display:
    """Writes to a stream. On a terminal, the progress line is rewritten in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._shown = False
        self._last = ""
        self._last_at = 0.0

    def line(self, text: str = "") -> None:
        """Write a permanent line."""
        self._clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def progress(self, text: str) -> None:
        """Show the progress; on a terminal, the next call replaces it."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[2K{text[:width]}")
            self._stream.flush()
            self._shown = True
        elif text != self._last and time.monotonic() - self._last_at >= QUIET_SECONDS:
            self.line(text)
            self._last, self._last_at = text, time.monotonic()

    def done(self) -> None:
        """Remove the progress line."""
        self._clear()

    def _clear(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[2K")
            self._shown = False


def summary(records: Sequence[JobRecord]) -> str:
    """Return the progress line: jobs by state, and the progress of active ones."""
    counts = Counter(record.state for record in records)
    parts = [f"{counts[state]} {JobState(state).label}" for state in STATES if counts[state]]
    active = [
        f"{record.name} {record.progress} % {record.progress_message}".rstrip()
        for record in records
        if record.state == JobState.ACTIVE and record.progress
    ]
    return " · ".join([*parts, *active])


def table(records: Sequence[JobRecord], about: Mapping[uuid.UUID, str]) -> list[str]:
    """Return a table of the jobs with state, attempts, wait and run time, as lines."""
    attempts: dict[uuid.UUID, list[JobAttempt]] = defaultdict(list)
    for attempt in JobAttempt.objects.filter(job__in=records):
        attempts[attempt.job_id].append(attempt)
    rows = [["job", "for", "queue", "state", "attempts", "wait", "run"]]
    for record in records:
        failed = attempts[record.pk]
        runs = len(failed) + (record.state == JobState.COMPLETED)
        rows.append(
            [
                record.name,
                about.get(record.pk, ""),
                record.queue,
                record.get_state_display(),
                str(runs),
                _seconds(_wait(record, failed)),
                _seconds(_run(record)),
            ]
        )
    return _aligned(rows, flush_right={4, 5, 6})


def _wait(record: JobRecord, failed: Sequence[JobAttempt]) -> float | None:
    """Return how long the job was due before its first start, in seconds."""
    starts = [attempt.started_at for attempt in failed if attempt.started_at]
    first = min(starts, default=record.started_at)
    if first is None:
        return None
    due = record.run_at if record.run_at is not None and not failed else record.created_at
    return max(0.0, (first - due).total_seconds())


def _run(record: JobRecord) -> float | None:
    """Return how long the last run took, in seconds."""
    if record.started_at is None or record.finished_at is None:
        return None
    return (record.finished_at - record.started_at).total_seconds()


def took(seconds: float, since_make: float | None) -> str:
    """Format the duration of the demo and, if known, the time since ``make demo`` was started."""
    with_installation = "" if since_make is None else f", {since_make:.0f} s since `make demo`"
    return f"{seconds:.1f} s in all{with_installation}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _aligned(rows: Sequence[Sequence[str]], flush_right: Iterable[int]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    right = set(flush_right)
    lines = [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
