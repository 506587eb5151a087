"""Mask the secrets of a run in log records, before any handler sees them."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from ..payload.redaction import redact


@contextlib.contextmanager
def mask_logs(secrets: Sequence[str]) -> Iterator[None]:
    """Mask secrets in the messages, arguments and tracebacks of all records made in the block.

    In any thread. This is done where records are made, so handlers, formatters and error trackers
    all get the masked text. What code passes as ``extra`` is added later and is not masked. Without
    secrets nothing is changed.
    """
    if not secrets:
        yield
        return

    make_record = logging.getLogRecordFactory()

    def make_masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        _mask(record, secrets)
        return record

    logging.setLogRecordFactory(make_masked)
    try:
        yield
    finally:
        if logging.getLogRecordFactory() is make_masked:
            logging.setLogRecordFactory(make_record)


def _mask(record: logging.LogRecord, secrets: Sequence[str]) -> None:
    text = f"{record.msg} {record.args!r}"
    try:
        text = record.getMessage()
        masked = redact(text, secrets)
    except Exception:  # the arguments do not fit: logging would print them, with the secrets
        masked = redact(text, secrets)
        text = ""
    if masked != text:
        record.msg, record.args = masked, ()

    if record.exc_info and record.exc_info[0] is not None:
        trace = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        masked = redact(trace, secrets)
        if masked != trace:
            record.exc_info, record.exc_text = None, masked
