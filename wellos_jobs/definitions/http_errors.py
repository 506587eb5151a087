"""What exceptions of HTTP libraries say: the status of the response, and its ``Retry-After``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ..errors import JobTimeout

MAX_RETRY_AFTER = 30 * 86_400.0
"""The longest wait, in seconds, that a ``Retry-After`` header gets."""


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status of an exception, by the attributes that HTTP libraries give it."""
    if not isinstance(error, Exception):
        return None  # the code of a SystemExit is not an HTTP status

    response = _attribute(error, "response")
    places = (
        (error, "status_code"),
        (error, "status"),
        (error, "code"),
        (response, "status_code"),
        (response, "status"),
    )
    for owner, name in places:
        value = _attribute(owner, name)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def is_outage(error: BaseException) -> bool:
    """Return whether an error means that a dependency is down or overloaded.

    These are failed connections, timeouts, and HTTP status 429 or 5xx.
    """
    status = http_status(error)
    if status is not None:
        return status == 429 or status >= 500
    return isinstance(error, (ConnectionError, TimeoutError, JobTimeout))


def is_refusal(error: BaseException) -> bool:
    """Return whether an error has an HTTP status 4xx other than 429: a retry would not help."""
    status = http_status(error)
    return status is not None and 400 <= status < 500 and status != 429


def retry_after(error: BaseException, now: datetime | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, or None.

    A header with a date is ignored if ``now`` is None.
    """
    for owner in (error, _attribute(error, "response")):
        headers = _attribute(owner, "headers")
        for name, value in _pairs(_attribute(headers, "items")):
            if name.lower() == "retry-after":
                return _header_seconds(value.strip(), now)
    return None


def _header_seconds(text: str, now: datetime | None) -> float | None:
    try:
        wait = float(text)
    except ValueError:
        wait = math.nan if now is None else _seconds_until(text, now)

    if math.isnan(wait):
        return None
    return min(max(wait, 0.0), MAX_RETRY_AFTER)


def _seconds_until(text: str, now: datetime) -> float:
    """Return the seconds from now until an HTTP date; NaN if the text is not a date."""
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return math.nan
    if until.tzinfo is None:  # "-0000" gives a naive datetime; HTTP dates are always GMT
        until = until.replace(tzinfo=now.tzinfo)
    return (until - now).total_seconds()


# The two below read a foreign exception, whose attributes may run any code: an exception raised by
# them must not end the worker.


def _pairs(items: Callable[[], Iterable[tuple[object, object]]] | None) -> list[tuple[str, str]]:
    if items is None:
        return []
    try:
        return [(str(name), str(value)) for name, value in items()]
    except Exception:
        return []


def _attribute(owner: object, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:
        return None
