"""Log lines on the page of a job: of its last runs, filtered by level or text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ...models import JobLog, JobRecord

MAX_RUNS = 5
"""How many runs are shown."""
MAX_RUNS_SEARCHED = 50
"""How many runs are searched for a text."""
MAX_MATCHES = 200
"""How many matching lines are shown."""
AROUND = 2
"""How many lines are shown before and after a match."""
MAX_SEARCH_TEXT = 200
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
Stored = Sequence[Any]
"""A stored line: seconds since the epoch, level, logger, text."""


@dataclass(frozen=True)
class Line:
    """A line to show. ``after_gap``: lines before it are omitted."""

    time: str
    level: str
    logger: str
    text: SafeString | str
    after_gap: bool = False


def logs(request: HttpRequest, job: JobRecord) -> dict[str, Any]:
    """Return the context of the logs, newest run first, for the parameters ``level`` and ``log``.

    One query.
    """
    level = request.GET.get("level", "")
    lowest = LEVELS.index(level) if level in LEVELS else 0
    text = request.GET.get("log", "").strip()[:MAX_SEARCH_TEXT]

    runs = MAX_RUNS_SEARCHED if text else MAX_RUNS
    stored = JobLog.objects.filter(job=job.pk).order_by("-replay", "-number")[:runs]
    filtered = [
        (log, [line for line in log.lines if line[1] not in LEVELS[:lowest]]) for log in stored
    ]
    if text:
        shown = _found(filtered, text)
    else:
        shown = [(log, [_line(line) for line in lines]) for log, lines in filtered]

    return {
        "logs": shown,
        "has_logs": bool(filtered),
        "levels": LEVELS,
        "level": LEVELS[lowest],
        "log_text": text,
        "found": _count_matches(shown) if text else 0,
        "most_found": MAX_MATCHES,
    }


def _count_matches(runs: Sequence[tuple[JobLog, list[Line]]]) -> int:
    """Count the lines with a marked match."""
    return sum(isinstance(line.text, SafeString) for _log, lines in runs for line in lines)


def _found(
    logs: Sequence[tuple[JobLog, list[Stored]]], text: str
) -> list[tuple[JobLog, list[Line]]]:
    """Return the runs with matching lines, and these with the lines around them."""
    pattern, left, shown = re.compile(f"({re.escape(text)})", re.IGNORECASE), MAX_MATCHES, []
    for log, lines in logs:
        matches = [at for at, line in enumerate(lines) if pattern.search(line[3])][:left]
        left -= len(matches)
        if matches:
            shown.append((log, list(_around(lines, matches, pattern))))
    return shown


def _around(
    lines: Sequence[Stored], matches: Sequence[int], pattern: re.Pattern[str]
) -> Iterator[Line]:
    near = {
        at
        for match in matches
        for at in range(match - AROUND, match + AROUND + 1)
        if 0 <= at < len(lines)
    }

    found, last = set(matches), -1
    for at in sorted(near):
        yield _line(lines[at], pattern if at in found else None, after_gap=at != last + 1)
        last = at


def _line(line: Stored, pattern: re.Pattern[str] | None = None, *, after_gap: bool = False) -> Line:
    seconds, level, logger, text = line
    at = timezone.localtime(datetime.fromtimestamp(seconds, tz=UTC))
    shown = text if pattern is None else _marked(text, pattern)
    return Line(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}", level, logger, shown, after_gap)


def _marked(text: str, pattern: re.Pattern[str]) -> SafeString:
    """Return a text with its matches marked: every second part of the split."""
    parts = enumerate(pattern.split(text))
    return format_html_join(
        "",
        "{}",
        ((format_html("<mark>{}</mark>", part) if at % 2 else part,) for at, part in parts),
    )
