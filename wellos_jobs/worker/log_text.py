"""The texts of a log record, whatever its arguments do: reading them never raises."""

from __future__ import annotations

import logging
import traceback


def message_of(record: logging.LogRecord) -> tuple[str, bool]:
    """Return the message, and whether its arguments fit. If not, they are part of the text."""
    try:
        return record.getMessage(), True
    except Exception:
        return _with_arguments(record), False


def _with_arguments(record: logging.LogRecord) -> str:
    try:
        return f"{record.msg} {record.args!r}"
    except Exception as error:  # of the __repr__ of an argument
        return f"(this message is not available: {type(error).__name__})"


def traceback_of(record: logging.LogRecord) -> str:
    """Return the traceback of the record's exception; '' without one."""
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    try:
        return "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    except Exception as error:
        return f"(this traceback is not available: {type(error).__name__})"
