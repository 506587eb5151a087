"""Mask the secrets of a run in what it logs, warns and prints."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..payload.redaction import redact
from .log_text import message_of, traceback_of


@contextlib.contextmanager
def mask_output(secrets: Sequence[str]) -> Iterator[None]:
    """Mask secrets in log records, warnings and printed text within the block, in any thread.

    Not masked: what code passes to logging as ``extra``, bytes written to ``sys.stdout.buffer``,
    and the output of other programs. Without secrets nothing is changed.
    """
    if not secrets:
        yield
        return

    with _mask_records(secrets), _mask_warnings(secrets), _mask_prints(secrets):
        yield


# --- log records ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _mask_records(secrets: Sequence[str]) -> Iterator[None]:
    """Mask records where they are made, so that every handler and formatter gets masked text."""
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
    record.name = redact(record.name, secrets)

    text, fits = message_of(record)
    masked = redact(text, secrets)
    if masked != text or not fits:  # logging would print arguments that do not fit
        record.msg, record.args = masked, ()

    if trace := traceback_of(record):
        # Always without the exception: error mails and trackers show the locals of its frames.
        record.exc_info, record.exc_text = None, redact(trace, secrets)
    if record.stack_info:
        record.stack_info = redact(record.stack_info, secrets)


# --- warnings and printed text --------------------------------------------------------------------


@contextlib.contextmanager
def _mask_warnings(secrets: Sequence[str]) -> Iterator[None]:
    show: Any = warnings.showwarning

    def show_masked(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        show(redact(str(message), secrets), *args, **kwargs)

    warnings.showwarning = show_masked
    try:
        yield
    finally:
        if warnings.showwarning is show_masked:
            warnings.showwarning = show


@contextlib.contextmanager
def _mask_prints(secrets: Sequence[str]) -> Iterator[None]:
    names = [name for name in ("stdout", "stderr") if getattr(sys, name) is not None]
    before = {name: getattr(sys, name) for name in names}
    masked = {name: _MaskedStream(stream, secrets) for name, stream in before.items()}

    for name, stream in masked.items():
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for name, stream in masked.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, before[name])


class _MaskedStream:
    """A text stream that masks secrets in what is written to it."""

    def __init__(self, stream: Any, secrets: Sequence[str]) -> None:
        self._stream = stream
        self._secrets = secrets

    def write(self, text: str) -> int:
        self._stream.write(redact(text, self._secrets) if isinstance(text, str) else text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
