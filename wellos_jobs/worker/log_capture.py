"""Capture the log lines of one run.

They are captured where records are made, so that no logger's handlers or propagation matter.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from .. import conf
from ..payload.redaction import redact
from ..payload.values import storable
from .log_text import message_of, traceback_of

MAX_LINES = 500
MAX_BYTES = 64 * 1024
MAX_LINE = 8 * 1024
"""Characters of one line that are kept. A line includes its traceback."""

MAX_NAME = 200
"""Characters of the names of a level and a logger that are kept."""

Line = tuple[float, str, str, str]
"""Seconds since the epoch, level name, logger name, text."""

_current: ContextVar[RunLog | None] = ContextVar("wellos_jobs_run_log", default=None)


class RunLog:
    """The lines that one run has logged at ``level`` and above: the last ones, if there are many.

    Which lines are made at all is decided by ``LOGGING``: a logger without a level has that of the
    root logger, WARNING by default. Threads that the run starts are not part of its context.
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self.lines: deque[Line] = deque()
        self.dropped = 0
        self._bytes = 0

    def add(self, record: logging.LogRecord, secrets: Sequence[str]) -> None:
        """Keep a line; drop the oldest ones if there are too many."""
        text = _clean(_text(record), secrets)[:MAX_LINE]
        level, logger = (
            _clean(str(name), secrets)[:MAX_NAME] for name in (record.levelname, record.name)
        )
        self.lines.append((round(record.created, 3), level, logger, text))
        self._bytes += _size(text)

        while len(self.lines) > MAX_LINES or self._bytes > MAX_BYTES:
            self._bytes -= _size(self.lines.popleft()[3])
            self.dropped += 1

    def as_detail(self) -> dict[str, Any]:
        """Return the part for the event of the run's end; empty if nothing was logged."""
        if not self.lines:
            return {}
        detail: dict[str, Any] = {"log": list(self.lines)}
        if self.dropped:
            detail["log_dropped"] = self.dropped
        return detail


def new() -> RunLog | None:
    """Return an empty log for a run; None if ``JOB_LOG_LEVEL`` turns it off."""
    level = conf.current().job_log_level
    return None if level is None else RunLog(logging.getLevelNamesMapping()[level])


@contextlib.contextmanager
def capture_logs(log: RunLog | None, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Add the lines that are logged in the block, in this context, to a log. None: do nothing."""
    if log is None:
        yield
        return

    make_record = logging.getLogRecordFactory()

    def make_and_keep(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        if _current.get() is log and record.levelno >= log.level:
            log.add(record, secrets)
        return record

    token = _current.set(log)
    logging.setLogRecordFactory(make_and_keep)
    try:
        yield
    finally:
        if logging.getLogRecordFactory() is make_and_keep:
            logging.setLogRecordFactory(make_record)
        _current.reset(token)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _clean(text: str, secrets: Sequence[str]) -> str:
    """Mask secrets, and drop what a database cannot store."""
    return str(storable(redact(text, secrets)))


def _text(record: logging.LogRecord) -> str:
    text, _ = message_of(record)
    trace = traceback_of(record) or record.exc_text
    return f"{text}\n{trace}" if trace else text
