"""The log lines of one run: caught where records are made, so that no logger's handlers or propagation matter."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from .. import conf
from ..payload.redaction import redact
from ..payload.values import storable

MOST_LINES = 500
MOST_BYTES = 64 * 1024
LONGEST_LINE = 8 * 1024
"""Characters of one line that are kept; a traceback is a line."""

Line = tuple[float, str, str, str]
"""Seconds since the epoch, name of the level, name of the logger, text."""

_kept: ContextVar[RunLog | None] = ContextVar("wellos_jobs_run_log", default=None)


class RunLog:
    """What one run has logged at ``level`` and above: the last lines, when there are too many to keep.

    Which lines are made at all is the project's choice: a logger without a level of its own has the
    root logger's, which is WARNING unless ``LOGGING`` says otherwise. Threads that the run starts
    are not its context.
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self.lines: deque[Line] = deque()
        self.dropped = 0
        self._bytes = 0

    def add(self, record: logging.LogRecord, secrets: Sequence[str]) -> None:
        """Keep a line, and let go of the oldest ones that it leaves no room for."""
        text = storable(redact(_text(record), secrets))[:LONGEST_LINE]
        self.lines.append((round(record.created, 3), record.levelname, record.name, text))
        self._bytes += len(text.encode("utf-8", "replace"))
        while len(self.lines) > MOST_LINES or self._bytes > MOST_BYTES:
            self._bytes -= len(self.lines.popleft()[3].encode("utf-8", "replace"))
            self.dropped += 1

    def told(self) -> dict[str, Any]:
        """Return what goes into the event of the run's end; nothing if nothing was logged."""
        if not self.lines:
            return {}
        return {"log": list(self.lines), **({"log_dropped": self.dropped} if self.dropped else {})}


def new() -> RunLog | None:
    """Return the log of a run that begins; None when ``JOB_LOG_LEVEL`` keeps none."""
    level = conf.current().job_log_level
    return None if level is None else RunLog(logging.getLevelNamesMapping()[level])


class caught:  # noqa: N801  # reads as a phrase: ``with caught(log, secrets):``
    """Let a run's log have the lines that are written within the block, in this context. None catches nothing."""

    def __init__(self, log: RunLog | None, secrets: Sequence[str] = ()) -> None:
        self._log = log
        self._secrets = secrets
        self._make_record: Any = None

    def __enter__(self) -> None:
        if self._log is None:
            return
        self._token = _kept.set(self._log)
        self._make_record = logging.getLogRecordFactory()
        logging.setLogRecordFactory(self._make_and_keep)

    def __exit__(self, *_: object) -> None:
        if self._make_record is None:
            return
        if logging.getLogRecordFactory() == self._make_and_keep:
            logging.setLogRecordFactory(self._make_record)
        _kept.reset(self._token)

    def _make_and_keep(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make_record(*args, **kwargs)
        log = _kept.get()
        if log is self._log and log is not None and record.levelno >= log.level:
            log.add(record, self._secrets)
        return record


def _text(record: logging.LogRecord) -> str:
    try:
        said = record.getMessage()
    except Exception:  # arguments that do not fit: logging itself tells so when it prints the line
        said = f"{record.msg} {record.args!r}"
    if record.exc_info and record.exc_info[0] is not None:
        said += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    elif record.exc_text:
        said += "\n" + record.exc_text
    return said


def as_text(line: Sequence[Any]) -> str:
    """Return a stored line as people read it: time of day in UTC, level, logger, text."""
    seconds, level, logger, text = line
    moment = f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S.%f}"[:-3]
    return f"{moment} {level:<8} {logger}: {text}"
