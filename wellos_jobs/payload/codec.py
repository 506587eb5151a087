"""A job's data and result as they are stored: plain JSON, with sensitive values encrypted.

``data`` is an object whose keys are argument names; it is never a tag itself (see ``values``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from .. import conf
from ..errors import EncryptionError, PayloadError
from . import encryption, tags
from .redaction import MASK, redact
from .values import (
    AS_IS,
    EncodingProblem,
    check_text,
    described,
    encode_value,
    map_items,
    map_tags,
    text_key,
    to_json,
)

__all__ = ["MASK", "Sealed", "decode", "decode_result", "encode", "encode_result", "mask"]
__all__ += ["check_typed", "is_sealed", "mask_value", "redact", "rotate", "secrets_in", "to_json"]
__all__ += ["unseal"]

_FIELD_NAME = re.compile(r"[A-Za-z_]{1,40}")


@dataclass(frozen=True, slots=True)
class Sealed:
    """A stored sensitive argument that stays encrypted: ``encode`` stores the same token again."""

    token: Any = field(repr=False)


def encode(
    data: Mapping[str, Any], *, sensitive: Collection[str] = (), limit: int | None = None
) -> dict[str, Any]:
    """Return a job's arguments as plain JSON, the ``sensitive`` ones encrypted.

    ``Sealed`` arguments are stored as they are.

    ``limit`` is in bytes of compact UTF-8 JSON; None takes ``MAX_PAYLOAD_BYTES``.

    Raises:
        PayloadError: a value cannot be encoded, or the data is too large. The message names the
            place.
        EncryptionError: there are sensitive values and no usable key.
    """
    if not isinstance(data, Mapping):
        raise PayloadError(f"data is {described(data)}: give a dict of named arguments")

    encoded: dict[str, Any] = {}
    name: Any = None
    try:
        for name, value in data.items():
            key = name if type(name) is str else text_key(name)
            if type(value) is Sealed:
                encoded[key] = {tags.ENCRYPTED: value.token}
            elif key in sensitive:
                encoded[key] = {tags.ENCRYPTED: _sealed(key, value)}
            else:
                encoded[key] = value if type(value) in AS_IS else encode_value(value, 2)
    except EncodingProblem as problem:
        problem.step(name)
        raise problem.at("data") from None

    _check_size("data", encoded, "pass an id instead", limit)
    return encoded


def canonical(data: Mapping[str, Any]) -> str:
    """Return the plain data as JSON that is the same for equal data, in any order of keys.

    Raises:
        PayloadError: the data cannot be encoded as JSON.
    """
    return json.dumps(encode(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def decode(data: Any, *, keep_sealed: bool = False) -> dict[str, Any]:
    """Return the arguments that ``encode`` was given, the sensitive ones decrypted.

    With ``keep_sealed`` the sensitive ones are not decrypted, but returned as ``Sealed``.

    Raises:
        PayloadError: the data was not written by ``encode``.
        EncryptionError: none of the configured keys decrypts a sensitive value.
    """
    if type(data) is not dict:
        raise PayloadError(f"data is {described(data)}, not an object of named arguments")

    sealed: dict[str, Any] = {}
    if keep_sealed:
        sealed = {
            name: Sealed(value[tags.ENCRYPTED]) for name, value in data.items() if is_sealed(value)
        }
        data = {name: value for name, value in data.items() if name not in sealed}
    try:
        return map_items(data, _untag) | sealed
    except EncodingProblem as problem:
        raise problem.at("data") from None


def is_sealed(value: Any) -> bool:
    """Return whether a stored argument is encrypted."""
    return type(value) is dict and value.keys() == {tags.ENCRYPTED}


def unseal(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of ``decode`` with those that are ``Sealed`` decrypted.

    Raises:
        EncryptionError: none of the configured keys decrypts a sensitive value.
        PayloadError: an encrypted value was not written by ``encode``.
    """
    sealed = {
        name: {tags.ENCRYPTED: value.token} for name, value in data.items() if type(value) is Sealed
    }
    return {**data, **decode(sealed)} if sealed else dict(data)


def check_typed(data: Mapping[str, Any]) -> None:
    """Refuse arguments in stored form that contain an encrypted value, at any depth.

    Only ``encode`` writes those. In data from a person they would make a job decrypt a secret
    copied from elsewhere.

    Raises:
        PayloadError: the message names the place.
    """

    def refuse(tag: str, inner: Any) -> Any:
        if tag == tags.ENCRYPTED:
            raise EncodingProblem(
                f"contains {tags.ENCRYPTED!r}, which only wellos_jobs writes: give the plain value"
            )
        if tag == tags.DICT and isinstance(inner, dict):
            map_items(inner, refuse)

    try:
        map_items(data, refuse)
    except EncodingProblem as problem:
        raise problem.at("data") from None
    except RecursionError:
        raise PayloadError("The data is nested too deeply: pass a flatter structure") from None


def encode_result(value: Any, *, limit: int | None = None) -> Any:
    """Return a job's result as plain JSON, by the rules of ``encode``.

    Raises:
        PayloadError: it cannot be encoded or is too large.
    """
    if value is None:
        return None
    try:
        encoded = encode_value(value)
    except EncodingProblem as problem:
        raise problem.at("result") from None
    _check_size("result", encoded, "store it and return an id instead", limit)
    return encoded


def decode_result(value: Any) -> Any:
    """Return the value that ``encode_result`` was given.

    Raises:
        PayloadError: it was not written by ``encode_result``.
    """
    try:
        return map_tags(value, _untag)
    except EncodingProblem as problem:
        raise problem.at("result") from None


def mask(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored data for display: sensitive values masked, tags as text. Never raises."""
    return {name: mask_value(value) for name, value in data.items()}


def mask_value(value: Any) -> Any:
    """Return one stored value, or a stored result, for display. Never raises."""
    try:
        return map_tags(value, _shown)
    except RecursionError:  # only the data of plain RQ jobs can be nested that deep
        return "…"


def secrets_in(data: Mapping[str, Any]) -> list[str]:
    """Return the texts in the sensitive values of stored data, for ``redact``.

    Raises:
        EncryptionError: none of the configured keys decrypts a sensitive value.
        PayloadError: an encrypted value was not written by ``encode``.
    """
    found: list[str] = []

    def collect(tag: str, inner: Any) -> Any:
        if tag == tags.ENCRYPTED:
            found.extend(_texts(_untag(tag, inner)))
        elif tag == tags.DICT and isinstance(inner, dict):
            map_items(inner, collect)

    try:
        map_items(data, collect)
    except EncodingProblem as problem:
        raise problem.at("data") from None
    return list(dict.fromkeys(found))


def rotate(data: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return stored data with all sensitive values under the first key, and whether any changed.

    Raises:
        EncryptionError: none of the keys decrypts a sensitive value.
    """
    changed = False

    def renew(tag: str, inner: Any) -> Any:
        nonlocal changed
        if tag == tags.DICT and isinstance(inner, dict):
            return {tag: map_items(inner, renew)}
        if tag != tags.ENCRYPTED:
            return {tag: inner}
        token = encryption.rotate(inner)
        changed = changed or token != inner
        return {tag: token}

    return map_items(data, renew), changed


def _check_size(root: str, encoded: Any, fix: str, limit: int | None) -> None:
    try:
        size = check_text(encoded)
    except EncodingProblem as problem:
        raise problem.at(root) from None

    allowed = conf.current().max_payload_bytes if limit is None else limit
    if size > allowed:
        raise PayloadError(
            f"The {root} is {size:,} bytes as JSON and at most {allowed:,} are allowed "
            f'(WELLOS_JOBS["MAX_PAYLOAD_BYTES"]): {fix}'
        )


def _sealed(name: str, value: Any) -> str:
    """Encrypt a sensitive value. Errors name no place inside it, because keys may be secret too."""
    try:
        encoded = encode_value(value, 2)
        check_text(encoded)
        return encryption.encrypt(to_json(encoded))
    except EncodingProblem as problem:
        raise EncodingProblem(problem.text) from None
    except EncryptionError as error:
        raise EncryptionError(f"Argument {name!r}: {error}") from None


def _untag(tag: str, inner: Any) -> Any:
    if tag == tags.ENCRYPTED:
        try:
            return map_tags(json.loads(encryption.decrypt(inner)), _untag)
        except json.JSONDecodeError:
            raise EncodingProblem("is encrypted, but its plain text is not JSON") from None
    if tag == tags.DICT:
        if not isinstance(inner, dict):
            raise EncodingProblem(f"has a broken {tag}: it contains {described(inner)}")
        return map_items(inner, _untag)
    try:
        return tags.read(tag, inner)
    except ValueError as error:
        raise EncodingProblem(str(error)) from None


def _shown(tag: str, inner: Any) -> Any:
    if tag == tags.ENCRYPTED:
        return MASK
    if tag == tags.DICT and isinstance(inner, dict):
        return map_items(inner, _shown)
    return tags.readable(tag, inner)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a sensitive value, without keys that look like names of fields.

    ``{"password": "x"}`` would else mask the word "password" in every text.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if not _FIELD_NAME.fullmatch(key):
                yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
        yield repr(value)
        if isinstance(value, UUID):
            yield value.hex
