"""Encodes one Python value as plain JSON, and decodes it.

Types that JSON lacks become an object with one key that begins with ``$`` (see ``tags``); a dict of
the caller that looks like one is wrapped in ``{"$dict": ...}``. Error texts name the place and the
type, never a value.
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

MAX_LEVELS = 30
"""How deep a value may be nested: MariaDB takes 31 levels of JSON, and a tag is one."""

AS_IS = frozenset({str, bool, type(None)})
"""Types that need no encoding."""

to_json: Callable[[Any], str] = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
"""Return compact JSON. ValueError for NaN and Infinity, TypeError for other types than JSON's."""

_FIXES: tuple[tuple[type | tuple[type, ...], str], ...] = (
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
_OTHER_FIX = (
    "pass text, numbers, lists, dicts, UUIDs, Decimals, aware datetimes, dates, times or timedeltas"
)


class EncodingProblem(Exception):
    """What is wrong with a value. On its way up, each container adds its step to the place.

    It never leaves the package: ``at`` turns it into a PayloadError.
    """

    def __init__(self, text: str, *, of_key: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self._of_key = of_key
        self._steps: list[str | int] = []

    def step(self, step: Any) -> None:
        """Add a key or an index. A problem with a key belongs to its dict: no first step."""
        if not self._of_key:
            self._steps.append(step if isinstance(step, int) else str(step))
        self._of_key = False

    def at(self, root: str) -> PayloadError:
        """Return the error, such as ``data["lines"][2] is a set: pass a sorted list``."""
        place = "".join(f"[{json.dumps(step)}]" for step in reversed(self._steps))
        return PayloadError(f"{root}{place} {self.text}")


def encode_value(value: Any, level: int = 1) -> Any:
    """Return a value as plain JSON; ``level`` is how deep it is nested.

    Raises:
        EncodingProblem: it cannot be encoded.
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
        EncodingProblem: it is not a text.
    """
    if not isinstance(key, str):
        raise EncodingProblem(
            f"has a key that is {described(key)}: use text for keys, as JSON does", of_key=True
        )
    return str.__str__(key.value if isinstance(key, enum.Enum) else key)


def described(value: Any) -> str:
    """Return the type of a value with an article: ``a set``."""
    name = value.__class__.__name__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"


def check_text(value: Any) -> int:
    """Return the size in bytes of an encoded value as compact UTF-8 JSON.

    The whole JSON text is checked at once, which is far cheaper than checking each string.

    Raises:
        EncodingProblem: not every database can store a text in it.
    """
    text = to_json(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = -1
    if size < 0 or "\\u0000" in text:  # the latter may also be an escaped backslash
        _check_strings(value)
    return size


def storable(value: Any) -> Any:
    """Return JSON data without what some databases refuse: NUL, lone surrogates, NaN, infinity."""
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
    """Return an encoded value with each tag replaced by ``tagged(tag, inner)``.

    Raises:
        EncodingProblem: ``tagged`` raised it; the place is added.
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
        except EncodingProblem as problem:
            problem.step(len(mapped))
            raise
        return mapped

    return value


def map_items(value: Mapping[str, Any], tagged: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Apply ``map_tags`` to the values of an object that is not itself a tag."""
    mapped: dict[str, Any] = {}
    name = ""
    try:
        for name, item in value.items():
            kind = type(item)
            mapped[name] = map_tags(item, tagged) if kind is dict or kind is list else item
    except EncodingProblem as problem:
        problem.step(name)
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
    except EncodingProblem as problem:
        problem.step(name)
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
    except EncodingProblem as problem:
        problem.step(len(encoded))
        raise
    return encoded


def _encode_float(value: float) -> dict[str, str]:
    if not math.isfinite(value):
        raise EncodingProblem("is NaN or Infinity, which JSON lacks: pass None or text")
    return _tagged(value)


def _encode_other(value: Any, level: int) -> Any:
    """Encode subclasses of JSON's types, lazy text, and types with a tag."""
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
        raise EncodingProblem(str(error)) from None


def _refuse(value: Any) -> NoReturn:
    fix = next((fix for kind, fix in _FIXES if isinstance(value, kind)), _OTHER_FIX)
    raise EncodingProblem(f"is {described(value)}: {fix}")


def _check_level(level: int) -> None:
    if level > MAX_LEVELS:
        raise EncodingProblem(
            f"is nested deeper than {MAX_LEVELS} levels, or contains itself: pass a flatter "
            "structure, or an id"
        )


def _check_strings(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise EncodingProblem("contains a NUL character, which databases refuse: remove it")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise EncodingProblem(
                "contains a lone surrogate, which is not valid Unicode: decode the text correctly"
            )
    if not isinstance(value, (dict, list)):
        return

    is_tag = isinstance(value, dict) and tags.DICT in value and len(value) == 1
    for step, item in value.items() if isinstance(value, dict) else enumerate(value):
        try:
            _check_strings(item)
        except EncodingProblem as problem:
            if not is_tag:
                problem.step(step)
            raise
        try:
            _check_strings(step)
        except EncodingProblem as problem:
            raise EncodingProblem(f"has a key that {problem.text}") from None
