"""One Python value into plain JSON and back, with the place of whatever cannot be carried.

What JSON lacks stands as an object with one key that begins with ``$`` (see ``tags``); a dict of
the caller's that looks like one is wrapped in ``{"$dict": ...}``. Error texts name the place and
the type, never a value.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, NoReturn

from django.core.files import File
from django.db.models import Model, QuerySet
from django.utils.datastructures import MultiValueDict
from django.utils.functional import Promise

from ..errors import PayloadError
from . import tags

MOST_LEVELS = 30
"""How deep a value may be nested: MariaDB takes at most 31 levels of JSON, and a tag is one."""

AS_IS = frozenset({str, bool, type(None)})
"""Types that go into JSON and come back without a look at them."""

to_json: Callable[[Any], str] = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
"""Return compact JSON. ValueError for NaN and Infinity, TypeError for what is no plain JSON."""

_MENDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (Model, "pass its pk and load it in the job"),
    (QuerySet, "pass a list of primary keys"),
    (File, "save it with a storage and pass its name"),
    (
        (bytes, bytearray, memoryview),
        "decode it to text, or save it with a storage and pass its name",
    ),
    ((set, frozenset), "pass a sorted list"),
    (MultiValueDict, "pass its dict() or a dict of its lists"),
    (enum.Enum, "pass its value"),
    (PurePath, "pass str() of it"),
    (BaseException, "pass str() of it"),
    (Mapping, "pass a dict"),
)
_OTHERWISE = (
    "pass text, numbers, lists, dicts, UUIDs, Decimals, aware datetimes, dates, times or timedeltas"
)


class Fault(Exception):  # never leaves the package: it becomes a PayloadError
    """What is wrong with a value; each container it passes on its way up adds its step to the place."""

    def __init__(self, text: str, *, of_key: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self._of_key = of_key
        self._steps: list[str | int] = []

    def step(self, step: Any) -> None:
        """Add a key or an index. A fault of a key is its dict's: it leaves out that first step."""
        if not self._of_key:
            self._steps.append(step if isinstance(step, int) else str(step))
        self._of_key = False

    def at(self, root: str) -> PayloadError:
        """Return the error to raise, such as ``data["lines"][2]["price"] is a set: pass a sorted list``."""
        place = "".join(f"[{json.dumps(step)}]" for step in reversed(self._steps))
        return PayloadError(f"{root}{place} {self.text}")


def encode_value(value: Any, level: int = 1) -> Any:
    """Return a value as plain JSON; ``level`` is how deep it stands.

    Raises:
        Fault: it cannot be carried.
    """
    kind = type(value)
    if kind in AS_IS:
        return value
    if kind is int:
        return value if -tags.LARGEST_INT <= value <= tags.LARGEST_INT else _tagged(value)
    if kind is dict:
        return _encode_dict(value, level)
    if kind is list or kind is tuple:
        return _encode_list(value, level)
    if kind is float:
        return value if -tags.LARGEST_FLOAT < value < tags.LARGEST_FLOAT else _encode_float(value)
    return _encode_other(value, level)


def text_key(key: Any) -> str:
    """Return the key of a dict as plain text.

    Raises:
        Fault: it is no text.
    """
    if not isinstance(key, str):
        raise Fault(f"has a key that is {described(key)}: JSON has only text for keys", of_key=True)
    return str.__str__(key.value if isinstance(key, enum.Enum) else key)


def described(value: Any) -> str:
    """Return the type of a value with its article."""
    name = value.__class__.__name__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"


def check_text(value: Any) -> int:
    """Return the size in bytes of an encoded value as compact UTF-8 JSON.

    The checks are made on the whole JSON text, which is far cheaper than a look at each string.

    Raises:
        Fault: a text in it cannot be stored by every database.
    """
    text = to_json(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = -1
    if size < 0 or "\\u0000" in text:  # the latter may also be an innocent backslash: look closely
        _check_strings(value)
    return size


def storable(value: Any) -> Any:
    """Return JSON data without what some database refuses: NUL characters, halves of surrogate pairs, NaN, infinity."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return value


def map_tags(value: Any, tagged: Callable[[str, Any], Any]) -> Any:
    """Return an encoded value with ``tagged(tag, inner)`` in the place of each tag.

    Raises:
        Fault: ``tagged`` did, with the place.
    """
    kind = type(value)
    if kind is dict:
        if len(value) == 1:
            ((tag, inner),) = value.items()
            if tag[:1] == "$":
                return tagged(tag, inner)
        return map_items(value, tagged)
    if kind is list:
        mapped: list[Any] = []
        try:
            for item in value:
                mapped.append(map_tags(item, tagged) if type(item) in (dict, list) else item)
        except Fault as fault:
            fault.step(len(mapped))
            raise
        return mapped
    return value


def map_items(value: Mapping[str, Any], tagged: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Do as ``map_tags`` for the values of an object that is itself no tag."""
    mapped: dict[str, Any] = {}
    name = ""
    try:
        for name, item in value.items():
            kind = type(item)
            mapped[name] = map_tags(item, tagged) if kind is dict or kind is list else item
    except Fault as fault:
        fault.step(name)
        raise
    return mapped


def _encode_dict(value: dict[Any, Any], level: int) -> dict[str, Any]:
    _check_level(level)
    encoded: dict[str, Any] = {}
    name: Any = None
    try:
        for name, item in value.items():
            key = name if type(name) is str else text_key(name)
            encoded[key] = item if type(item) in AS_IS else encode_value(item, level + 1)
    except Fault as fault:
        fault.step(name)
        raise
    if len(encoded) == 1 and key[:1] == "$":
        _check_level(level + 1)
        return {tags.DICT: encoded}
    return encoded


def _encode_list(value: list[Any] | tuple[Any, ...], level: int) -> list[Any]:
    _check_level(level)
    encoded: list[Any] = []
    try:
        for item in value:
            encoded.append(item if type(item) in AS_IS else encode_value(item, level + 1))
    except Fault as fault:
        fault.step(len(encoded))
        raise
    return encoded


def _encode_float(value: float) -> dict[str, str]:
    if not math.isfinite(value):
        raise Fault("is NaN or Infinity, which JSON lacks: pass None or text")
    return _tagged(value)


def _encode_other(value: Any, level: int) -> Any:
    """Encode what is none of JSON's own types: subclasses of these, lazy text, and what has a tag."""
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, enum.Enum):
        return encode_value(value.value, level) if isinstance(value, (str, int)) else _refuse(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return encode_value(int(value), level)
    if isinstance(value, float):
        return encode_value(float(value), level)
    if isinstance(value, dict) and not isinstance(value, MultiValueDict):
        return _encode_dict(value, level)
    if isinstance(value, (list, tuple)):
        return _encode_list(value, level)
    return _tagged(value)


def _tagged(value: Any) -> dict[str, str]:
    try:
        return tags.write(value) or _refuse(value)
    except ValueError as error:
        raise Fault(str(error)) from None


def _refuse(value: Any) -> NoReturn:
    mend = next((mend for kind, mend in _MENDS if isinstance(value, kind)), _OTHERWISE)
    raise Fault(f"is {described(value)}: {mend}")


def _check_level(level: int) -> None:
    if level > MOST_LEVELS:
        raise Fault(
            f"is nested deeper than {MOST_LEVELS} levels, or contains itself: pass less, or an id"
        )


def _check_strings(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise Fault("holds a NUL character, which databases refuse: remove it")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise Fault(
                "holds a lone surrogate, which is no valid Unicode: decode the text properly first"
            )
    if not isinstance(value, (dict, list)):
        return
    is_tag = isinstance(value, dict) and tags.DICT in value and len(value) == 1
    for step, item in value.items() if isinstance(value, dict) else enumerate(value):
        try:
            _check_strings(item)
        except Fault as fault:
            if not is_tag:
                fault.step(step)
            raise
        try:
            _check_strings(step)
        except Fault as fault:
            raise Fault(f"has a key that {fault.text}") from None
