"""Values: which can be encoded and decoded, which are refused, and the error messages."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import itertools
import json
import math
import pathlib
import random
import types
import uuid
from decimal import Decimal
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.db import models
from django.http import QueryDict
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from wellos_jobs import payload
from wellos_jobs.errors import PayloadError
from wellos_jobs.payload import tags
from wellos_jobs.payload.values import MAX_LEVELS
from wellos_jobs.states import JobState, Priority

from ..support.payload_values import BERLIN, CARRIED, PLAIN, TAGGED, nested, same, stored

KEY = Fernet.generate_key().decode()


@pytest.fixture(autouse=True)
def keys(settings: Any) -> None:
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [KEY]}


# --- what comes back as it was --------------------------------------------------------------------


@pytest.mark.parametrize("value", CARRIED, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    for data in ({"a": value}, {"a": [value, {"b": value}]}, {"a": {"b": {"$c": value}}}):
        assert same(payload.decode(stored(data)), data)
        assert same(payload.decode(stored(data, sensitive=("a",))), data)


@pytest.mark.parametrize("value", CARRIED, ids=lambda value: type(value).__name__)
def test_a_result_comes_back_as_it_was(value: Any) -> None:
    for result in (value, [value], {"b": value}):
        text = payload.to_json(payload.encode_result(result))
        assert same(payload.decode_result(json.loads(text)), result)


@pytest.mark.parametrize(("value", "tag"), TAGGED, ids=lambda value: type(value).__name__)
def test_the_tag_of_a_type(value: Any, tag: str) -> None:
    (encoded,) = payload.encode({"a": value}).values()
    assert list(encoded) == [tag]
    assert isinstance(encoded[tag], str)


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_values_are_stored_as_they_are(value: Any) -> None:
    assert same(payload.encode({"a": value}), {"a": value})


def test_random_trees_come_back_as_they_were() -> None:
    chance = random.Random(20260301)

    def tree(level: int) -> Any:
        kind = chance.random()
        if level == 0 or kind < 0.4:
            return chance.choice(CARRIED[:-3])
        if kind < 0.7:
            return [tree(level - 1) for _ in range(chance.randrange(4))]
        names = ["a", "b", "$c", "$dict", "$uuid", "$encrypted", "", "ключ"]
        return {name: tree(level - 1) for name in chance.sample(names, chance.randrange(4))}

    for _ in range(500):
        data = {"one": tree(5), "two": tree(5)}
        sensitive = chance.choice([(), ("one",), ("one", "two")])
        encoded = stored(data, sensitive=sensitive, limit=10**7)
        assert same(payload.decode(encoded), data)
        rotated, changed = payload.rotate(encoded)
        assert same(rotated, encoded)
        assert not changed
        payload.to_json(payload.mask(encoded))


def test_the_keys_of_data_are_names_and_never_a_tag() -> None:
    data = {"$uuid": "not one"}
    encoded = stored(data)
    assert encoded == data
    assert payload.decode(encoded) == data
    assert payload.mask(encoded) == data
    assert payload.rotate(encoded) == (data, False)
    assert payload.secrets_in(encoded) == []


def test_encoded_data_is_a_copy() -> None:
    data: dict[str, Any] = {"a": [1, {"b": 2}]}
    encoded = payload.encode(data)
    data["a"][1]["b"] = 3
    data["a"].append(4)
    assert encoded == {"a": [1, {"b": 2}]}


def test_arguments_do_not_mix() -> None:
    for one, other in itertools.pairwise(CARRIED):
        assert same(
            payload.decode(stored({"one": one, "other": other})), {"one": one, "other": other}
        )


@pytest.mark.django_db
def test_every_database_gives_back_what_a_row_was_given() -> None:
    from django.utils import timezone

    from wellos_jobs.models import JobRecord

    values = {f"v{place}": value for place, value in enumerate(CARRIED)}
    values["deep"] = nested(MAX_LEVELS - 1, uuid.UUID(int=1))
    values["deep_dict"] = nested(MAX_LEVELS - 3, {"$a": uuid.UUID(int=1)})
    record = JobRecord.objects.create(
        name="carry",
        queue="default",
        created_at=timezone.now(),
        data=payload.encode(values, sensitive=("v1",)),
    )
    JobRecord.objects.filter(pk=record.pk).update(
        result=payload.encode_result(nested(MAX_LEVELS, Decimal(1)))
    )
    record.refresh_from_db()
    assert payload.decode(record.data) == values
    assert payload.decode_result(record.result) == nested(MAX_LEVELS, Decimal(1))
    for name, value in values.items():  # equal is not enough: 1.0 must not come back as 1
        same_type = type(payload.decode(record.data)[name]) is type(value)
        assert same_type, name


# --- what comes back as its plain form ------------------------------------------------------------


class Color(enum.Enum):
    RED = "red"


class Shape(str, enum.Enum):  # noqa: UP042  # as people write it
    ROUND = "round"


class Level(models.IntegerChoices):
    TOP = 7, "top"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (Point(1, 2), [1, 2]),
        (gettext_lazy("waiting"), "waiting"),
        (mark_safe("<b>"), "<b>"),
        (Text("itself"), "itself"),
        (JobState.WAITING, "waiting"),
        (Shape.ROUND, "round"),
        (Priority.HIGH, 3),
        (Level.TOP, 7),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (types.SimpleNamespace(a=1).__dict__, {"a": 1}),
        (
            {JobState.FAILED: 1, Shape.ROUND: 2, mark_safe("k"): 3},
            {"failed": 1, "round": 2, "k": 3},
        ),
        (type("Whole", (int,), {})(5), 5),
        (type("Real", (float,), {})(0.5), 0.5),
        (
            type("Moment", (dt.datetime,), {})(2026, 3, 1, tzinfo=dt.UTC),
            dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
        ),
        (type("Day", (dt.date,), {})(2026, 3, 1), dt.date(2026, 3, 1)),
        (type("Money", (Decimal,), {})("1.50"), Decimal("1.50")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_come_back_as_the_plain_type(value: Any, expected: Any) -> None:
    decoded = payload.decode(stored({"a": value}))["a"]
    assert same(decoded, expected)
    assert type(decoded) is type(expected)
    assert same(
        payload.decode_result(json.loads(payload.to_json(payload.encode_result(value)))), expected
    )


def test_lazy_text_is_encoded_in_the_current_language() -> None:
    assert payload.encode({"a": [gettext_lazy("waiting")]}) == {"a": ["waiting"]}


def test_data_may_be_any_mapping_with_text_for_names() -> None:
    assert payload.encode(types.MappingProxyType({"a": 1})) == {"a": 1}
    assert payload.encode({JobState.FAILED: 1}) == {"failed": 1}
    assert list(map(type, payload.encode({JobState.FAILED: 1}))) == [str]


# --- what is refused ------------------------------------------------------------------------------


def _looping() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


class _NoOffset(dt.tzinfo):
    def utcoffset(self, moment: dt.datetime | None) -> None:
        return None


REFUSED = [
    (b"x", "is a bytes: decode it"),
    (bytearray(b"x"), "is a bytearray: decode it"),
    (memoryview(b"x"), "is a memoryview: decode it"),
    ({1, 2}, "is a set: pass a sorted list"),
    (frozenset(), "is a frozenset: pass a sorted list"),
    (lambda: get_user_model()(pk=4), "is an? [A-Z]\\w*: pass its pk"),
    (lambda: SimpleLazyObject(lambda: get_user_model()(pk=4)), "is an? [A-Z]\\w*: pass its pk"),
    (lambda: get_user_model()._default_manager.all(), "is a QuerySet: pass a list of primary keys"),
    (ContentFile(b"x"), "is a ContentFile: save it with a storage"),
    (QueryDict("a=1&a=2"), r"is a QueryDict: pass its dict\(\)"),
    (Color.RED, "is a Color: pass its value"),
    (pathlib.Path("/tmp"), r"is a PosixPath: pass str\(\) of it"),
    (ValueError("x"), r"is a ValueError: pass str\(\) of it"),
    (types.MappingProxyType({}), "is a mappingproxy: pass a dict"),
    (object(), "is an object: pass text, numbers"),
    (len, "is a builtin_function_or_method: pass text"),
    (int, "is a type: pass text"),
    (iter([]), "is a list_iterator: pass text"),
    (range(3), "is a range: pass text"),
    (1j, "is a complex: pass text"),
    (math.nan, "is NaN or Infinity"),
    (math.inf, "is NaN or Infinity"),
    (-math.inf, "is NaN or Infinity"),
    (Decimal("NaN"), "is a Decimal that is NaN or Infinity"),
    (Decimal("sNaN"), "is a Decimal that is NaN or Infinity"),
    (Decimal("-Infinity"), "is a Decimal that is NaN or Infinity"),
    (10**5000, "is an integer with too many digits"),
    (dt.datetime(2026, 3, 1), "is a naive datetime: give it a time zone"),
    (dt.datetime(2026, 3, 1, tzinfo=_NoOffset()), "is a naive datetime"),
    (dt.time(12, tzinfo=BERLIN), "is a time whose zone has no fixed offset"),
    ("a\x00b", "contains a NUL character"),
    ("\\u0000\x00", "contains a NUL character"),
    ("\ud800", "contains a lone surrogate"),
    ({"a\x00": 1}, "has a key that contains a NUL character"),
    ({"\udfff": 1}, "has a key that contains a lone surrogate"),
    ({1: 2}, "has a key that is an int"),
    ({None: 2}, "has a key that is a NoneType"),
    ({("a", "b"): 2}, "has a key that is a tuple"),
    (nested(MAX_LEVELS), f"is nested deeper than {MAX_LEVELS} levels"),
    (nested(500), "is nested deeper"),
    (_looping(), "is nested deeper than .* or contains itself"),
    (nested(MAX_LEVELS - 2, {"$a": 1}), "is nested deeper"),
]


@pytest.mark.parametrize(("value", "text"), REFUSED, ids=[text[:40] for _, text in REFUSED])
def test_values_that_cannot_be_encoded(value: Any, text: str) -> None:
    value = value() if isinstance(value, types.LambdaType) else value
    anywhere = r"(\[.*\])?"  # of what is too deep, the place is deep inside
    with pytest.raises(PayloadError, match=rf'^data\["who"\]{anywhere} {text}'):
        payload.encode({"id": 1, "who": value})
    with pytest.raises(PayloadError, match=rf'^data\["lines"\]\[2\]\["price"\]{anywhere} {text}'):
        payload.encode({"lines": [1, {"price": 2}, {"x": 0, "price": value}]})
    with pytest.raises(PayloadError, match=rf"^result{anywhere} {text}"):
        payload.encode_result(value if "nested deeper" not in text else [value])
    with pytest.raises(PayloadError, match=rf'^result\["a"\]\[0\]{anywhere} {text}'):
        payload.encode_result({"a": [value]})


@pytest.mark.parametrize(("value", "text"), REFUSED, ids=[text[:40] for _, text in REFUSED])
def test_errors_of_a_sensitive_value_name_only_the_argument(value: Any, text: str) -> None:
    value = value() if isinstance(value, types.LambdaType) else value
    with pytest.raises(PayloadError, match=rf'^data\["who"\] {text}') as caught:
        payload.encode({"id": 1, "who": value}, sensitive=("who",))
    assert caught.value.__suppress_context__
    with pytest.raises(PayloadError, match=rf'^data\["who"\] {text}') as caught:
        payload.encode({"id": 1, "who": {"s3cret": [value]}}, sensitive=("who",))
    assert "s3cret" not in str(caught.value)


def test_a_naive_datetime_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="naive"):
        payload.encode({"when": dt.datetime(2026, 3, 1)})


@pytest.mark.parametrize("data", [None, 1, "text", [("a", 1)], {1, 2}])
def test_data_must_be_a_dict(data: Any) -> None:
    with pytest.raises(PayloadError, match=r"^data is an? \w+: give a dict of named arguments"):
        payload.encode(data)


@pytest.mark.parametrize(("name", "text"), [(1, "an int"), (None, "a NoneType")])
def test_names_must_be_text(name: Any, text: str) -> None:
    with pytest.raises(PayloadError, match=f"^data has a key that is {text}"):
        payload.encode({"a": 1, name: 2})


@pytest.mark.parametrize("name", ["a\x00", "\ud800"])
def test_names_with_characters_that_databases_refuse(name: str) -> None:
    with pytest.raises(PayloadError, match="^data has a key that contains a "):
        payload.encode({name: 2})


def test_the_deepest_data() -> None:
    data = {"a": nested(MAX_LEVELS - 1, uuid.UUID(int=1))}
    assert payload.decode(stored(data)) == data
    result = nested(MAX_LEVELS, uuid.UUID(int=1))
    assert payload.decode_result(payload.encode_result(result)) == result


# --- reading back ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"$uuid": "nonsense"}, "has a broken $uuid: its text is invalid"),
        ({"$uuid": 7}, "has a broken $uuid: its value is int, not text"),
        ({"$uuid": None}, "has a broken $uuid: its value is NoneType"),
        ({"$decimal": "ten"}, "has a broken $decimal"),
        ({"$datetime": "2026-03-01"}, "has a broken $datetime"),
        ({"$datetime": "2026-03-01T10:00:00"}, "has a broken $datetime"),
        ({"$datetime": "[Europe/Berlin]"}, "has a broken $datetime"),
        ({"$date": "2026-02-30"}, "has a broken $date"),
        ({"$time": "25:00"}, "has a broken $time"),
        ({"$timedelta": "a while"}, "has a broken $timedelta"),
        ({"$timedelta": "1/0"}, "has a broken $timedelta"),
        ({"$timedelta": "1" + "0" * 30}, "has a broken $timedelta"),
        ({"$int": "1.5"}, "has a broken $int"),
        ({"$float": "x"}, "has a broken $float"),
        ({"$dict": [1]}, "has a broken $dict: it contains a list"),
        ({"$dict": None}, "has a broken $dict: it contains a NoneType"),
        ({"$color": "red"}, "has the unknown tag '$color', perhaps of a newer version"),
        ({"$": 1}, "has the unknown tag '$'"),
    ],
)
def test_invalid_tags(value: Any, text: str) -> None:
    with pytest.raises(PayloadError) as caught:
        payload.decode({"ok": 1, "a": [0, {"b": value}]})
    assert str(caught.value).startswith(f'data["a"][1]["b"] {text}')
    with pytest.raises(PayloadError) as caught:
        payload.decode_result([value])
    assert str(caught.value).startswith(f"result[0] {text}")
    assert payload.mask({"a": value})["a"] is not None or next(iter(value.values())) is None


@pytest.mark.parametrize("data", [None, 1, "text", [1], ("a",)])
def test_stored_data_must_be_an_object(data: Any) -> None:
    with pytest.raises(PayloadError, match="not an object of named arguments"):
        payload.decode(data)


def test_an_unknown_zone_keeps_the_moment() -> None:
    moment = payload.decode({"a": {"$datetime": "2026-03-01T10:00:00+05:00[Mars/Olympus]"}})["a"]
    assert moment == dt.datetime(2026, 3, 1, 5, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", ""])
def test_a_zone_name_is_never_a_path(name: str) -> None:
    moment = payload.decode({"a": {"$datetime": f"2026-03-01T10:00:00+05:00[{name}]"}})["a"]
    assert moment.utcoffset() == dt.timedelta(hours=5)


def test_changed_rules_of_a_zone_keep_the_moment() -> None:
    moment = payload.decode({"a": {"$datetime": "2026-07-01T10:00:00+01:00[Europe/Berlin]"}})["a"]
    assert moment == dt.datetime(2026, 7, 1, 9, 0, tzinfo=dt.UTC)
    assert moment.tzinfo == BERLIN


def test_decimals_do_not_depend_on_the_context_of_the_reader() -> None:
    value = Decimal("123456.7890123")
    with decimal.localcontext() as context:
        context.prec = 3
        decoded = payload.decode(stored({"a": value, "b": dt.timedelta.max}))
    assert decoded == {"a": value, "b": dt.timedelta.max}


# --- the table of tags ----------------------------------------------------------------------------


def test_every_tag_that_is_written_can_be_read() -> None:
    written = {tag for _, tag in TAGGED}
    assert written == {
        "$int",
        "$float",
        "$uuid",
        "$decimal",
        "$datetime",
        "$date",
        "$time",
        "$timedelta",
    }
    for value, tag in TAGGED:
        assert same(tags.read(tag, payload.encode({"a": value})["a"][tag]), value)
