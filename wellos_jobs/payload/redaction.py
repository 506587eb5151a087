"""Redaction: removes secrets from messages, tracebacks and logs."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "********"
"""Replaces a sensitive value."""

_SHORT = 3
_SHORTEST_LINE = 8


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with each secret replaced by ``MASK``, also where it is escaped.

    A secret is found as it is, as Python, JSON, a URL or HTML would write it, and by its long lines
    if it has several. A secret of up to 3 characters is replaced only as a whole word: else a PIN
    of "1" would mask every line number of a traceback.
    """
    forms = {form for secret in secrets for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        if form not in text:
            continue
        if len(form) > _SHORT:
            text = text.replace(form, MASK)
        else:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, text)
    return text


def _forms(secret: str) -> Iterable[str]:
    """Yield the forms in which a secret may appear."""
    lines = [line.strip() for line in secret.splitlines()]
    long_lines = [line for line in lines if len(line) >= _SHORTEST_LINE]
    for part in {secret, *long_lines}:
        if part.strip():
            yield part
            yield repr(part)[1:-1]
            yield ascii(part)[1:-1]
            yield repr(part.encode("utf-8", "replace"))[2:-1]
            yield json.dumps(part)[1:-1]
            yield json.dumps(part, ensure_ascii=False)[1:-1]
            yield quote(part, safe="", errors="replace")
            yield quote(part, errors="replace")
            yield quote_plus(part, errors="replace")
            yield html.escape(part)
