"""Log lines that say which job and which request they belong to: for a project to name in its ``LOGGING``."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from .enqueueing import tracing
from .enqueueing.context import current_job

FIELDS = ("job_id", "job_name", "queue", "organization_id", "attempt", "request_id", "trace_id")
"""What a line is given. Outside of runs and requests the values are ''."""
_OF_EVERY_RECORD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message",
    "asctime",
    "taskName",
}


class JobFilter(logging.Filter):
    """Give each record the fields of the run and the request that it was written in; let all pass.

    Put it on handlers, so that it sees the lines of all loggers. What a record has already, it
    keeps: the lines about the start and the end of a job bring their own.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _fields().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record: time in UTC, level, logger, message, the fields above, and whatever a call
    gave as ``extra``. What JSON does not know is written as text."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = {
            **_fields(),
            **{key: value for key, value in vars(record).items() if key not in _OF_EVERY_RECORD},
        }
        told |= {
            key: value
            for key, value in fields.items()
            if value not in ("", None) and key not in told
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            told["exception"] = record.exc_text
        return json.dumps(told, ensure_ascii=False, default=str)


def _fields() -> dict[str, Any]:
    job, origin = current_job(None), tracing.origin()
    return {
        "job_id": job.id if job else "",
        "job_name": job.name if job else "",
        "queue": job.queue if job else "",
        "organization_id": job.organization_id if job else "",
        "attempt": job.attempt if job else "",
        "request_id": origin.get("request_id", ""),
        "trace_id": origin.get("trace_id", ""),
    }
