"""Log lines that name their job and request: a filter and a JSON formatter for ``LOGGING``."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from .enqueueing.context import current_job, current_origin

FIELDS = ("job_id", "job_name", "queue", "organization_id", "attempt", "request_id", "trace_id")
"""The fields added to each record; '' outside jobs and requests."""
_STANDARD_ATTRIBUTES = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message",
    "asctime",
    "taskName",
}


class JobFilter(logging.Filter):
    """Add ``FIELDS`` of the current job and request to each record; no record is dropped.

    Put it on handlers, so that it sees the records of all loggers. An attribute that a record
    already has is kept: the lines about the start and end of a job bring their own.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _fields().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time in UTC, level, logger, message, ``FIELDS`` and ``extra``.

    Empty fields are left out; a value that JSON lacks is written as text.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }

        for name, value in (_fields() | _extra(record)).items():
            if value not in ("", None):
                line.setdefault(name, value)

        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=str)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a logging call gave as ``extra``, or a filter has added."""
    attributes = vars(record).items()
    return {name: value for name, value in attributes if name not in _STANDARD_ATTRIBUTES}


def _fields() -> dict[str, Any]:
    job = current_job(None)
    origin = current_origin()
    return {
        "job_id": job.id if job else "",
        "job_name": job.name if job else "",
        "queue": job.queue if job else "",
        "organization_id": job.organization_id if job else "",
        "attempt": job.attempt if job else "",
        "request_id": origin.get("request_id", ""),
        "trace_id": origin.get("trace_id", ""),
    }
