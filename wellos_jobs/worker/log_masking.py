"""Log lines of a run that has secrets: they are taken out before any handler sees the line."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from typing import Any

from ..payload.redaction import redact


class masked_logs:  # noqa: N801  # reads as a phrase: ``with masked_logs(secrets):``
    """Mask secrets in the messages, arguments and tracebacks of all records made within the block, in any thread.

    It is done where records are made, so handlers, formatters and services for errors all get the
    masked text. What code hands over as ``extra`` is added later and stays as it is. Without
    secrets nothing is touched.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets
        self._make_record: Any = None

    def __enter__(self) -> None:
        if self._secrets:
            self._make_record = logging.getLogRecordFactory()
            logging.setLogRecordFactory(self._make_masked)

    def __exit__(self, *_: object) -> None:
        if self._make_record is not None and logging.getLogRecordFactory() == self._make_masked:
            logging.setLogRecordFactory(self._make_record)

    def _make_masked(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make_record(*args, **kwargs)
        said = f"{record.msg} {record.args!r}"
        try:
            said = record.getMessage()
            masked = redact(said, self._secrets)
        except Exception:  # arguments that do not fit: logging would print them, secrets and all
            masked = redact(said, self._secrets)
            said = ""
        if masked != said:
            record.msg, record.args = masked, ()
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            masked = redact(trace, self._secrets)
            if masked != trace:
                record.exc_info, record.exc_text = None, masked
        return record
