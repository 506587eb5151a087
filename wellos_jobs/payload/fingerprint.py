"""Fingerprints: the same fault of the same job has the same one, whatever ids or addresses its message quotes."""

from __future__ import annotations

import hashlib
import re

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_HEX = re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_ADDRESS = re.compile(r"[^\s<>'\"]+@[^\s<>'\"]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SHAPES = (
    (_UUID, "<id>"),
    (_ADDRESS, "<address>"),
    (_QUOTED, "<text>"),
    (_HEX, "<hex>"),
    (_NUMBER, "<n>"),
)
_PLACE = re.compile(r'File "([^"]+)", line \d+, in (\S+)')


def fingerprint(name: str, error_class: str, message: str, traceback: str) -> str:
    """Return 16 hex digits made from job name, error class, the shape of the message and where it was raised.

    Line numbers do not count: they move with every edit.
    """
    places = _PLACE.findall(traceback)
    where = ":".join(places[-1]) if places else ""
    text = "\x1f".join((name, error_class, _shape(message), where))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shape(message: str) -> str:
    first_line = message.strip().partition("\n")[0]
    for pattern, mark in (
        (_UUID, "<id>"),
        (_ADDRESS, "<address>"),
        (_QUOTED, "<text>"),
        (_HEX, "<hex>"),
        (_NUMBER, "<n>"),
    ):
        first_line = pattern.sub(mark, first_line)
    return first_line
