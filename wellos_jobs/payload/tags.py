"""Types that JSON lacks, as text under a tag: ``UUID`` under ``$uuid``, and so on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

ENCRYPTED = "$encrypted"
"""A sensitive value: the Fernet token of its JSON."""
DICT = "$dict"
"""A dict of the caller whose only key begins with ``$``."""

LARGEST_INT = 2**63 - 1
"""Larger ones become text: MySQL would keep them as inexact doubles."""
LARGEST_FLOAT = 1e16
"""From here on Python writes an exponent, which PostgreSQL's ``jsonb`` returns as an int."""


def write(value: object) -> dict[str, str] | None:
    """Return the tagged form of a value, or None if its type has no tag.

    Raises:
        ValueError: it has one, but this value cannot be encoded. The message continues "it ...".
    """
    entry = _OF_TYPE.get(type(value))
    if entry is None:
        entry = next((entry for kind, entry in _OF_TYPE.items() if isinstance(value, kind)), None)
        if entry is None:
            return None
    tag, text_of = entry
    return {tag: text_of(value)}


def read(tag: str, text: object) -> Any:
    """Return the value of a tag.

    Raises:
        ValueError: the tag is unknown or its text is broken.
    """
    reader = _READERS.get(tag)
    if reader is None:
        raise ValueError(
            f"has the unknown tag {tag!r}, perhaps of a newer version of wellos_jobs: "
            "upgrade this process"
        )
    if not isinstance(text, str):
        raise ValueError(f"has a broken {tag}: its value is {type(text).__name__}, not text")
    try:
        return reader(text)
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"has a broken {tag}: its text is invalid") from error


def readable(tag: str, text: object) -> object:
    """Return the value of a tag for display; never raises."""
    if tag != "$timedelta":
        return text
    try:
        return str(read(tag, text))
    except ValueError:
        return text


def _int(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise ValueError("is an integer with too many digits: pass it as text") from None


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError("is a Decimal that is NaN or Infinity: pass None or text")
    return str(value)


def _datetime(value: dt.datetime) -> str:
    if value.utcoffset() is None:
        raise ValueError(
            "is a naive datetime: give it a time zone, as django.utils.timezone.make_aware does"
        )
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    return f"{value.isoformat()}[{zone}]" if zone else value.isoformat()


def _time(value: dt.time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise ValueError(
            "is a time whose zone has no fixed offset: pass the time and the zone's name"
        )
    return value.isoformat()


def _timedelta(value: dt.timedelta) -> str:
    microseconds = value // dt.timedelta(microseconds=1)
    whole, rest = divmod(abs(microseconds), 1_000_000)
    return f"{'-' if microseconds < 0 else ''}{whole}.{rest:06d}"


def _read_datetime(text: str) -> dt.datetime:
    stamp, bracket, zone_name = text.partition("[")
    moment = dt.datetime.fromisoformat(stamp)
    if moment.utcoffset() is None:
        raise ValueError("no offset")
    if not bracket:
        return moment

    try:
        zone = ZoneInfo(zone_name.removesuffix("]"))
    except (KeyError, ValueError, OSError):
        return moment  # this machine lacks the zone; the moment is still exact

    for fold in (0, 1):
        local = moment.replace(tzinfo=zone, fold=fold)
        if local.utcoffset() == moment.utcoffset():
            return local
    return moment.astimezone(zone)  # the zone's rules have changed since; the moment stays


def _read_timedelta(text: str) -> dt.timedelta:
    return dt.timedelta(microseconds=int(Fraction(text) * 1_000_000))


# A datetime is a date, so it must come first.
_OF_TYPE: Mapping[type, tuple[str, Callable[[Any], str]]] = {
    UUID: ("$uuid", str),
    Decimal: ("$decimal", _decimal),
    dt.datetime: ("$datetime", _datetime),
    dt.date: ("$date", dt.date.isoformat),
    dt.time: ("$time", _time),
    dt.timedelta: ("$timedelta", _timedelta),
    int: ("$int", _int),
    float: ("$float", float.__repr__),
}
_READERS: Mapping[str, Callable[[str], Any]] = {
    "$uuid": UUID,
    "$decimal": Decimal,
    "$datetime": _read_datetime,
    "$date": dt.date.fromisoformat,
    "$time": dt.time.fromisoformat,
    "$timedelta": _read_timedelta,
    "$int": int,
    "$float": float,
}
