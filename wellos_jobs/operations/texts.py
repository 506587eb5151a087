"""Texts that people send: cleaned of what databases refuse, and bounded, before they are stored."""

from __future__ import annotations

import unicodedata

from ..payload.values import storable

MAX_REASON = 1_000
"""Maximum characters of a reason or note."""
MAX_QUERY = 4_000
"""Maximum characters of a stored query string."""

_KEPT = frozenset("\n\t")


def cleaned(text: str, limit: int = MAX_REASON) -> str:
    """Return a text without NUL, lone surrogates and control characters, at most ``limit`` long.

    Line breaks and tabs are kept. A longer text ends with "…".
    """
    bounded = text[: limit + 1].strip()  # also keeps the work small
    plain = "".join(filter(_is_kept, storable(bounded.replace("\x00", "")))).strip()
    return plain if len(plain) <= limit else f"{plain[: limit - 1]}…"


def is_clean(text: str) -> bool:
    """Return whether ``cleaned`` would keep every character."""
    return storable(text) == text and all(map(_is_kept, text))


def _is_kept(character: str) -> bool:
    return character in _KEPT or unicodedata.category(character) != "Cc"
