"""What is stored of an exception that ended a run: class, message and traceback without secrets,
and a fingerprint that groups the failures with the same cause.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Sequence
from types import TracebackType

from django.core.exceptions import ValidationError

from . import codec
from .values import storable

MAX_MESSAGE = 2_000
"""Characters of a message that are stored."""
MAX_TRACEBACK = 32_000
"""Characters of a traceback that are stored."""
MAX_FINGERPRINTED = 1_000
"""Characters of a message's first line that count for its fingerprint."""

_WORKER_PACKAGES = ("wellos_jobs.worker", "wellos_jobs.definitions", "wellos_jobs.task_backend")
"""Packages whose frames precede the job's own in a traceback."""


# --- description ----------------------------------------------------------------------------------


def describe(error: BaseException, secrets: Sequence[str] = ()) -> dict[str, str]:
    """Return ``error_class`` (dotted path), ``message`` and ``traceback``.

    Each secret is replaced by ``MASK``, and every database can store the texts.
    """
    error_class = f"{type(error).__module__}.{type(error).__qualname__}"
    return {
        "error_class": storable(error_class.removeprefix("builtins.")),
        "message": _clean(_message(error), secrets, MAX_MESSAGE),
        "traceback": _clean(_traceback(error), secrets, MAX_TRACEBACK),
    }


def _message(error: BaseException) -> str:
    try:
        if isinstance(error, ValidationError):
            return "; ".join(error.messages)  # str() would show a list in brackets
        return str(error)
    except BaseException as failure:  # a foreign __str__ must not end the worker
        return f"(its message is not available: str() raised {type(failure).__name__})"


def _traceback(error: BaseException) -> str:
    """Return the traceback without the worker's frames above the job's own."""
    frames: TracebackType | None = error.__traceback__
    while frames is not None and _is_worker(frames):
        frames = frames.tb_next

    return "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))


def _is_worker(frame: TracebackType) -> bool:
    package = str(frame.tb_frame.f_globals.get("__package__") or "")
    return package in _WORKER_PACKAGES or package.partition(".")[0] == "rq"


def _clean(text: str, secrets: Sequence[str], limit: int) -> str:
    """Mask secrets, drop what a database cannot store, and cut the middle out of a long text."""
    text = storable(codec.redact(text, secrets) if secrets else text)
    if len(text) <= limit:
        return text

    half = limit // 2
    return f"{text[:half]}\n… {len(text) - limit} characters left out …\n{text[-half:]}"


# --- fingerprint ----------------------------------------------------------------------------------

_PLACEHOLDERS = (
    (re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"), "<id>"),
    # An address: a whole word with an @ inside it. The lookbehind keeps the time linear: without
    # it, a long word without an @ is searched again from each of its characters.
    (re.compile(r"(?<![^\s<>'\"])[^\s<>'\"][^\s<>'\"@]*@[^\s<>'\"]+"), "<address>"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "<text>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b"), "<hex>"),
    (re.compile(r"\d+(?:\.\d+)?"), "<n>"),
)
"""Parts of a message that vary between failures with the same cause, replaced in this order."""
_LOCATION = re.compile(r'File "([^"]+)", line \d+, in (\S+)')


def fingerprint(name: str, error_class: str, message: str, traceback: str) -> str:
    """Return 16 hex digits: the same for failures of one job with the same cause.

    Made from job name, error class, the first line of the message without ids, addresses, numbers
    and quoted values, and the file and function that raised. Line numbers do not count, because
    they move with every edit.
    """
    locations = _LOCATION.findall(traceback)
    location = ":".join(locations[-1]) if locations else ""
    parts = (name, error_class, _pattern(message), location)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def _pattern(message: str) -> str:
    """Return the first line of a message with placeholders for its variable parts."""
    line = message.strip().partition("\n")[0][:MAX_FINGERPRINTED]
    for variable, placeholder in _PLACEHOLDERS:
        line = variable.sub(placeholder, line)
    return line
