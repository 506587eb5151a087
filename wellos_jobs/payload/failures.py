"""Faults: what people are told of an exception that ended a run, without secrets, as every database can store it."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from types import TracebackType

from django.core.exceptions import ValidationError

from . import codec
from .values import storable

MOST_MESSAGE = 2_000
MOST_TRACEBACK = 32_000
_WORKER_PACKAGES = ("wellos_jobs.worker", "wellos_jobs.definitions")
"""Those whose frames stand above a job's own in a traceback."""


def describe(error: BaseException, secrets: Sequence[str] = ()) -> dict[str, str]:
    """Return ``error_class`` (dotted path), ``message`` and ``traceback``, with ``MASK`` for each secret."""
    return {
        "error_class": f"{type(error).__module__}.{type(error).__qualname__}".removeprefix(
            "builtins."
        ),
        "message": _clean(_message(error), secrets, MOST_MESSAGE),
        "traceback": _clean(_trace(error), secrets, MOST_TRACEBACK),
    }


def _message(error: BaseException) -> str:
    try:
        if isinstance(error, ValidationError):  # as people read it, not as a list in brackets
            return "; ".join(error.messages)
        return str(error)
    except Exception as fault:  # a stranger's __str__ must not end the worker
        return f"(its text cannot be made: {type(fault).__name__})"


def _trace(error: BaseException) -> str:
    """Return the traceback without the frames of the worker above the job's own."""
    shown: TracebackType | None = error.__traceback__
    while shown is not None and _is_worker(shown):
        shown = shown.tb_next
    return "".join(traceback.format_exception(type(error), error, shown or error.__traceback__))


def _is_worker(shown: TracebackType) -> bool:
    package = str(shown.tb_frame.f_globals.get("__package__") or "")
    return package in _WORKER_PACKAGES or package.partition(".")[0] == "rq"


def _clean(text: str, secrets: Sequence[str], most: int) -> str:
    """Mask secrets, drop what a database cannot store, and keep the two ends of a text that is too long."""
    text = storable(codec.redact(text, secrets) if secrets else text)
    if len(text) <= most:
        return text
    return (
        f"{text[: most // 2]}\n… {len(text) - most} characters left out …\n{text[-(most // 2) :]}"
    )
