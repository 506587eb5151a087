"""The log lines on the page of a job: those of its last runs, from a level on, or those where a text stands."""

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
"""Of how many runs the lines are shown."""
MAX_RUNS_SEARCHED = 50
"""In the lines of how many runs a text is looked for."""
MAX_MATCHES = 200
"""How many lines with the text are shown."""
AROUND = 2
"""How many lines are shown before and after one that was found."""
MAX_SEARCH_TEXT = 200
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
Stored = Sequence[Any]
"""A line as it is kept: seconds since the epoch, level, logger, text."""


@dataclass(frozen=True)
class Line:
    """A line as it is shown. ``after_gap``: lines before it are left out."""

    time: str
    level: str
    logger: str
    text: SafeString | str
    after_gap: bool = False


def logs(request: HttpRequest, job: JobRecord) -> dict[str, Any]:
    """Return what the page shows of the logs, newest run first; the address may hold a ``level`` and a ``log`` text.

    One query.
    """
    level = request.GET.get("level", "")
    least = LEVELS.index(level) if level in LEVELS else 0
    text = request.GET.get("log", "").strip()[:MAX_SEARCH_TEXT]
    kept = JobLog.objects.filter(job=job.pk).order_by("-replay", "-number")[
        : MAX_RUNS_SEARCHED if text else MAX_RUNS
    ]
    loud = [(log, [line for line in log.lines if line[1] not in LEVELS[:least]]) for log in kept]
    shown = (
        _found(loud, text)
        if text
        else [(log, [_line(line) for line in lines]) for log, lines in loud]
    )
    return {
        "logs": shown,
        "has_logs": bool(loud),
        "levels": LEVELS,
        "level": LEVELS[least],
        "log_text": text,
        "found": sum(isinstance(line.text, SafeString) for _log, lines in shown for line in lines)
        if text
        else 0,
        "most_found": MAX_MATCHES,
    }


def _found(
    logs: Sequence[tuple[JobLog, list[Stored]]], text: str
) -> list[tuple[JobLog, list[Line]]]:
    """Return the runs that have lines with the text, and these lines with those around them."""
    sought, left, shown = re.compile(f"({re.escape(text)})", re.IGNORECASE), MAX_MATCHES, []
    for log, lines in logs:
        places = [at for at, line in enumerate(lines) if sought.search(line[3])][:left]
        left -= len(places)
        if places:
            shown.append((log, list(_around(lines, places, sought))))
    return shown


def _around(
    lines: Sequence[Stored], places: Sequence[int], sought: re.Pattern[str]
) -> Iterator[Line]:
    near = {
        at
        for place in places
        for at in range(place - AROUND, place + AROUND + 1)
        if 0 <= at < len(lines)
    }
    found, last = set(places), -1
    for at in sorted(near):
        yield _line(lines[at], sought if at in found else None, after_gap=at != last + 1)
        last = at


def _line(line: Stored, sought: re.Pattern[str] | None = None, *, after_gap: bool = False) -> Line:
    seconds, level, logger, text = line
    at = timezone.localtime(datetime.fromtimestamp(seconds, tz=UTC))
    shown = text if sought is None else _marked(text, sought)
    return Line(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}", level, logger, shown, after_gap)


def _marked(text: str, sought: re.Pattern[str]) -> SafeString:
    """Return a text in which what was looked for is marked: each second part of it."""
    parts = enumerate(sought.split(text))
    return format_html_join(
        "",
        "{}",
        ((format_html("<mark>{}</mark>", part) if at % 2 else part,) for at, part in parts),
    )
