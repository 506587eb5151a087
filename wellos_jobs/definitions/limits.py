"""Limits across the whole cluster: at most n runs at once (Concurrency), or n starts per period
(RateLimit).

A limited job waits without using up an attempt, and starts as soon as the limit allows. Jobs with
the same ``key`` share a limit; without a key each job name has its own. A key may contain fields:
``"quickbooks:{organization}"``, or the name of an argument, ``"account:{account_id}"``.

The limits are enforced in ``broker/scripts/include/limits.lua``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

Key = str | Callable[[Mapping[str, Any]], str] | None
"""A text with fields, or a function of the data; None is the job's name."""

ORGANIZATION = "organization"
"""The field of a key that is not an argument."""

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
        check_count("Concurrency", "n", self.n)
        check_key("Concurrency", self.key)

    def wire(self, name: str, data: Mapping[str, Any], organization: str) -> dict[str, Any]:
        """Return the limit for one job as the Lua scripts read it."""
        return {"id": f"c:{resolve(self.key, name, data, organization)}", "n": self.n}


@dataclass(frozen=True, init=False)
class RateLimit:
    """At most n starts in any period: ``"10/s"``, ``"100/min"``, ``"5/30s"``.

    A start counts as ``weight`` starts. Several rates hold at the same time:
    ``RateLimit("10/s", "100/min")``.

    Raises:
        ValueError: a rate is invalid, or the weight is above it.
    """

    rates: tuple[str, ...]
    key: Key = None
    weight: int = 1

    def __init__(self, *rates: str, key: Key = None, weight: int = 1) -> None:
        for name, value in (("rates", rates), ("key", key), ("weight", weight)):
            object.__setattr__(self, name, value)

        if not rates:
            raise ValueError("RateLimit: no rate is given: give at least one, such as '10/s'")
        check_count("RateLimit", "weight", weight)
        check_key("RateLimit", key)
        for rate in rates:
            if weight > int(_rate_parts(rate)[0]):
                raise ValueError(
                    f"RateLimit: weight {weight} is above the rate {rate!r}, so the job could "
                    "never start: give a smaller weight or a higher rate"
                )

    def each(self) -> list[RateLimit]:
        """Return one limit for each rate."""
        return [RateLimit(rate, key=self.key, weight=self.weight) for rate in self.rates]

    @property
    def rate(self) -> str:
        """The first of the rates; the only one, once ``each`` has split them."""
        return self.rates[0]

    @property
    def most(self) -> int:
        """The number of starts per period."""
        return int(_rate_parts(self.rate)[0])

    @property
    def period(self) -> float:
        """The period in seconds."""
        _, count, unit = _rate_parts(self.rate)
        return float(count or 1) * _UNITS[unit]

    def wire(self, name: str, data: Mapping[str, Any], organization: str) -> dict[str, Any]:
        """Return the limit for one job as the Lua scripts read it."""
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
            f"RateLimit: {rate!r} is not a valid rate: use the form '10/s', '100/min' or '5/30s'"
        )
    return match[1], match[2], match[3]


# --- keys -----------------------------------------------------------------------------------------


def fields_of(key: Key) -> set[str]:
    """Return the names of the fields in a key."""
    if not isinstance(key, str):
        return set()
    return {field for _, field, _, _ in string.Formatter().parse(key) if field is not None}


def check_fields(key: Key, parameters: Collection[str], takes_any: bool) -> None:
    """Check the fields of a key against a job's parameters.

    Raises:
        ValueError: a field is neither a parameter nor ``organization``.
    """
    unknown = fields_of(key) - {ORGANIZATION, *parameters}
    if unknown and not takes_any:
        known = ", ".join([ORGANIZATION, *sorted(parameters)])
        raise ValueError(f"key {key!r} has the unknown field {min(unknown)!r}: use one of {known}")


def resolve(key: Key, name: str, data: Mapping[str, Any], organization: str) -> str:
    """Return the key for one job.

    Raises:
        ValueError: a field has no value in the data, or a key function returned no text.
    """
    if key is None:
        return name

    if callable(key):
        text = key(data)
        if not isinstance(text, str) or not text:
            raise ValueError(
                f"the key function of {name} returned {text!r}: it must return a non-empty text"
            )
        return text

    try:
        return key.format_map({ORGANIZATION: organization, **data})
    except KeyError as error:
        raise ValueError(
            f"the key {key!r} of {name} needs the argument {error}, which the data does not have"
        ) from error


def check_key(owner: str, key: object) -> None:
    """Check that a key is a text with fields, or a function.

    Raises:
        ValueError: it is neither, or the fields of the text are malformed.
    """
    if key is not None and not callable(key) and (not isinstance(key, str) or not key):
        raise ValueError(
            f"{owner}: key is {key!r}: give a text, a function of the data, or leave it out"
        )

    try:
        fields_of(key)
    except ValueError as error:
        raise ValueError(
            f"{owner}: key is {key!r}: {error}; write {{{{ and }}}} for literal braces"
        ) from error


def check_count(owner: str, option: str, value: object) -> None:
    """Check that an option is a whole number of at least 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{owner}: {option} is {value!r}: it must be a whole number of at least 1")
