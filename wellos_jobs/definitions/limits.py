"""Limits over the whole cluster: at most so many runs at once (Concurrency), or starts in a period (RateLimit).

A limited job waits without burning an attempt and starts as soon as there is room. Jobs that name
the same ``key`` share a limit; without a key each job name has its own. A key may have fields:
``"quickbooks:{organization}"`` or the name of an argument, ``"account:{account_id}"``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .retry import in_seconds

Key = str | Callable[[Mapping[str, Any]], str] | None
"""A text with fields, or a function of the data; None is the job's name."""

ORGANIZATION = "organization"
_RATE = re.compile(r"(\d+)\s*/\s*(\d+(?:\.\d+)?)?\s*(s|sec|second|min|m|minute|h|hour|d|day)s?")
_UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}


@dataclass(frozen=True)
class Concurrency:
    """At most ``n`` runs at once.

    Raises:
        ValueError: ``n`` is not a whole number of at least 1.
    """

    n: int
    key: Key = None

    def __post_init__(self) -> None:
        _whole("Concurrency", "n", self.n)
        check_key("Concurrency", self.key)

    def wire(self, name: str, data: Mapping[str, Any], organization: str) -> dict[str, Any]:
        """Return the limit of one job as the scripts read it."""
        return {"id": f"c:{resolve(self.key, name, data, organization)}", "n": self.n}


@dataclass(frozen=True, init=False)
class RateLimit:
    """At most so many starts in any period: ``"10/s"``, ``"100/min"``, ``"5/30s"``. A start counts ``weight``.

    Several rates hold together: ``RateLimit("10/s", "100/min")``.

    Raises:
        ValueError: a rate cannot be read, or the weight is above it.
    """

    rates: tuple[str, ...]
    key: Key = None
    weight: int = 1

    def __init__(self, *rates: str, key: Key = None, weight: int = 1) -> None:
        for name, value in (("rates", rates), ("key", key), ("weight", weight)):
            object.__setattr__(self, name, value)
        if not rates:
            raise ValueError("RateLimit: give a rate, such as '10/s'")
        _whole("RateLimit", "weight", weight)
        check_key("RateLimit", key)
        for rate in rates:
            if weight > int(_rate_parts(rate)[0]):
                raise ValueError(
                    f"RateLimit: weight {weight} is above the rate {rate!r}: it could never start"
                )

    def each(self) -> list[RateLimit]:
        """Return a limit for each rate."""
        return [RateLimit(rate, key=self.key, weight=self.weight) for rate in self.rates]

    @property
    def rate(self) -> str:
        """The first of the rates: of those in force on a job each has one."""
        return self.rates[0]

    @property
    def most(self) -> int:
        """How many starts fit into a period."""
        return int(_rate_parts(self.rate)[0])

    @property
    def period(self) -> float:
        """The period in seconds."""
        _, count, unit = _rate_parts(self.rate)
        return float(count or 1) * _UNITS[unit]

    def wire(self, name: str, data: Mapping[str, Any], organization: str) -> dict[str, Any]:
        """Return the limit of one job as the scripts read it."""
        key = resolve(self.key, name, data, organization)
        return {
            "id": f"r:{key}/{self.period:g}",
            "n": self.most,
            "p": self.period,
            "w": self.weight,
        }


def _rate_parts(rate: object) -> tuple[str, str | None, str]:
    match = _RATE.fullmatch(rate.strip()) if isinstance(rate, str) else None
    if match is None or int(match[1]) < 1 or float(match[2] or 1) <= 0:
        raise ValueError(
            f"RateLimit: {rate!r} is no rate: write it like '10/s', '100/min' or '5/30s'"
        )
    return match[1], match[2], match[3]


Limit = Concurrency | RateLimit


def fields_of(key: Key) -> set[str]:
    """Return the names that a key's text refers to."""
    if not isinstance(key, str):
        return set()
    return {field for _, field, _, _ in string.Formatter().parse(key) if field is not None}


def check_fields(key: Key, parameters: Collection[str], takes_any: bool) -> None:
    """Check the fields of a key against a job's parameters.

    Raises:
        ValueError: a field names neither a parameter nor ``organization``.
    """
    unknown = fields_of(key) - {ORGANIZATION, *parameters}
    if unknown and not takes_any:
        known = ", ".join([ORGANIZATION, *sorted(parameters)])
        raise ValueError(f"key {key!r} has the field {sorted(unknown)[0]!r}; there are {known}")


def resolve(key: Key, name: str, data: Mapping[str, Any], organization: str) -> str:
    """Return the key of one job.

    Raises:
        ValueError: a field has no value in the data, or a function of the data gives no text.
    """
    if key is None:
        return name
    if callable(key):
        text = key(data)
        if not isinstance(text, str) or not text:
            raise ValueError(f"the key function of {name} returned {text!r}: it must return a text")
        return text
    try:
        return key.format_map({ORGANIZATION: organization, **data})
    except KeyError as error:
        raise ValueError(
            f"the key {key!r} of {name} needs {error}, which the data do not have"
        ) from error


def _whole(kind: str, option: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{kind}: {option} is {value!r}: it must be a whole number of at least 1")


def check_key(kind: str, key: object) -> None:
    """Check that a key is a text with fields, or a function.

    Raises:
        ValueError: it is neither, or the fields of the text cannot be read.
    """
    if key is not None and not callable(key) and (not isinstance(key, str) or not key):
        raise ValueError(
            f"{kind}: key is {key!r}: give a text, a function of the data, or leave it out"
        )
    try:
        fields_of(key)
    except ValueError as error:
        raise ValueError(
            f"{kind}: key is {key!r}: {error}; write a brace that is no field twice"
        ) from error


def above_zero(kind: str, option: str, value: float | timedelta) -> float:
    """Return a time in seconds.

    Raises:
        ValueError: it is no time, or not above 0.
    """
    try:
        seconds = in_seconds(option, value)
    except ValueError as error:
        raise ValueError(f"{kind}: {error}") from error
    if not seconds > 0:
        raise ValueError(f"{kind}: {option} is {value!r}: it must be above 0 seconds")
    return seconds
