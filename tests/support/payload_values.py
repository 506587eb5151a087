"""Values that a payload carries, and what it takes to compare them."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from wellos_jobs import payload

BERLIN = ZoneInfo("Europe/Berlin")

PLAIN = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**53 + 1,
    2**63 - 1,
    1 - 2**63,
    0.0,
    -0.0,
    0.1,
    1.0,
    -1.5,
    9_999_999_999_999_998.0,
    5e-324,
    "",
    "text",
    "Zürich 😀 \u2028\u2029",
    "\\u0000",
    "\\",
    "\x01\x1f\x7f\t\r\n",
    "</script><b>'\"&",
    "$uuid",
    "********",
    [],
    {},
    [[], [[]], {}],
    {"": ""},
    {"a": {"b": {"c": [1, 2, {"d": None}]}}},
]
TAGGED = [
    (2**63, "$int"),
    (-(2**63), "$int"),
    (10**300, "$int"),
    (1e16, "$float"),
    (-1e16, "$float"),
    (1e22, "$float"),
    (1.7976931348623157e308, "$float"),
    (uuid.UUID("12345678-1234-5678-1234-567812345678"), "$uuid"),
    (Decimal("1.10"), "$decimal"),
    (Decimal("-0"), "$decimal"),
    (Decimal("1E+5"), "$decimal"),
    (Decimal("0.1234567890123456789012345678901234567890"), "$decimal"),
    (dt.datetime(2026, 3, 1, 12, 30, tzinfo=dt.UTC), "$datetime"),
    (dt.datetime(2026, 3, 1, 12, 30, 1, 999_999, tzinfo=dt.UTC), "$datetime"),
    (dt.datetime(2026, 3, 1, tzinfo=dt.timezone(dt.timedelta(hours=-9, minutes=-30))), "$datetime"),
    (dt.datetime(2026, 7, 1, 12, 30, tzinfo=BERLIN), "$datetime"),
    (dt.datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=BERLIN), "$datetime"),
    (dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN), "$datetime"),
    (dt.datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN), "$datetime"),
    (dt.datetime(1, 1, 1, tzinfo=BERLIN), "$datetime"),
    (dt.datetime.max.replace(tzinfo=BERLIN), "$datetime"),
    (dt.date(2026, 2, 28), "$date"),
    (dt.date.min, "$date"),
    (dt.time(23, 59, 59, 999_999), "$time"),
    (dt.time(12, 0, tzinfo=dt.UTC), "$time"),
    (dt.timedelta(0), "$timedelta"),
    (dt.timedelta(seconds=90), "$timedelta"),
    (dt.timedelta(microseconds=1), "$timedelta"),
    (dt.timedelta(microseconds=-1), "$timedelta"),
    (dt.timedelta(days=-3, seconds=5, microseconds=7), "$timedelta"),
    (dt.timedelta.max, "$timedelta"),
    (dt.timedelta.min, "$timedelta"),
]
ESCAPED = [
    {"$uuid": "12345678-1234-5678-1234-567812345678"},
    {"$encrypted": "gAAAA"},
    {"$dict": {}},
    {"$dict": {"$dict": {"$dict": 1}}},
    {"$": None},
    {"$anything": [{"$decimal": "1"}]},
    {"$ref": {"inner": uuid.UUID(int=7), "$x": 1}},
]
LOOKS_ESCAPED = [{"$uuid": "x", "other": 1}, {"a$": 1}, {"$a": 1, "$b": 2}]
CARRIED = [*PLAIN, *(value for value, _ in TAGGED), *ESCAPED, *LOOKS_ESCAPED]


def stored(data: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Encode, and take the way through the text that Redis and the database hold."""
    read: dict[str, Any] = json.loads(payload.to_json(payload.encode(data, **options)))
    return read


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, of the same types and in the same time zone and fold all
    the way down."""
    return bool(one == other) and repr(one) == repr(other)


def nested(levels: int, inside: Any = "x") -> Any:
    for _ in range(levels):
        inside = [inside]
    return inside
