"""Payloads: their size, and the life of a sensitive value: stored, masked, rotated, redacted."""

from __future__ import annotations

import datetime as dt
import html
import json
import math
import urllib.parse
import uuid
from decimal import Decimal
from typing import Any

import pytest
from cryptography.fernet import Fernet

from wellos_jobs import payload
from wellos_jobs.errors import EncryptionError, PayloadError
from wellos_jobs.payload import encryption
from wellos_jobs.payload.redaction import MASK

from ..support.payload_values import nested, same, stored

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


@pytest.fixture(autouse=True)
def keys(settings: Any) -> None:
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [OLD]}


# --- size -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x" * 90, "é" * 45, "😀" * 22 + "xx"])
def test_the_limit_counts_bytes_of_utf8_json(text: str) -> None:
    size = len(f'{{"a":"{text}"}}'.encode())
    assert size == 98
    payload.encode({"a": text}, limit=98)
    with pytest.raises(
        PayloadError, match=r"^The data is 98 bytes as JSON and at most 97 .*: pass an id instead$"
    ):
        payload.encode({"a": text}, limit=97)


def test_the_limit_counts_what_is_stored_of_a_sensitive_value() -> None:
    with pytest.raises(PayloadError, match="pass an id instead"):
        payload.encode({"a": "x" * 60}, sensitive=("a",), limit=98)


def test_the_limit_of_the_settings(settings: Any) -> None:
    payload.encode({"a": "x" * (65_536 - 8)})
    with pytest.raises(PayloadError, match=r"65,537 bytes as JSON and at most 65,536"):
        payload.encode({"a": "x" * (65_536 - 7)})
    settings.WELLOS_JOBS = {"MAX_PAYLOAD_BYTES": 20}
    with pytest.raises(PayloadError, match="at most 20"):
        payload.encode({"a": "x" * 13})
    with pytest.raises(
        PayloadError, match=r"^The result is 21 bytes .* at most 20 .*: store it and return an id"
    ):
        payload.encode_result("x" * 19)
    assert payload.encode_result("x" * 18) == "x" * 18


# --- secrets --------------------------------------------------------------------------------------


def test_a_sensitive_value_is_stored_as_one_token() -> None:
    encoded = payload.encode({"token": "s3cret", "id": 4}, sensitive=("token", "absent"))
    assert encoded["id"] == 4
    assert list(encoded["token"]) == ["$encrypted"]
    assert "s3cret" not in payload.to_json(encoded)
    assert encryption.decrypt(encoded["token"]["$encrypted"]) == '"s3cret"'


@pytest.mark.parametrize("value", [None, "", 0, False, [], {}])
def test_even_an_empty_sensitive_value_is_encrypted(value: Any) -> None:
    encoded = payload.encode({"a": value}, sensitive=("a",))
    assert list(encoded["a"]) == ["$encrypted"]
    assert same(payload.decode(encoded), {"a": value})


def test_a_sensitive_value_needs_a_key(settings: Any) -> None:
    settings.WELLOS_JOBS = {}
    payload.encode({"token": "s3cret"})
    with pytest.raises(EncryptionError, match=r"^Argument 'token': .*ENCRYPTION_KEYS"):
        payload.encode({"token": "s3cret"}, sensitive=("token",))


def test_a_lost_key_is_an_encryption_error(settings: Any) -> None:
    encoded = payload.encode({"token": "s3cret"}, sensitive=("token",))
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [NEW]}
    for read in (payload.decode, payload.secrets_in, payload.rotate):
        with pytest.raises(EncryptionError, match="cannot be decrypted"):
            read(encoded)
    assert payload.mask(encoded) == {"token": MASK}


@pytest.mark.parametrize("token", [None, 7, {"a": 1}, "nonsense"])
def test_an_invalid_token_is_an_encryption_error(token: Any) -> None:
    for read in (payload.decode, payload.secrets_in, payload.rotate):
        with pytest.raises(EncryptionError):
            read({"a": {"$encrypted": token}})


def test_an_encrypted_text_that_is_not_json_is_a_payload_error() -> None:
    encoded = {"a": {"$encrypted": encryption.encrypt("s3cret {")}}
    for read in (payload.decode, payload.secrets_in):
        with pytest.raises(
            PayloadError, match=r'^data\["a"\] is encrypted, but its plain text is not JSON'
        ) as caught:
            read(encoded)
        assert "s3cret" not in str(caught.value)
        assert caught.value.__suppress_context__


def test_masked_data() -> None:
    data = {
        "token": "s3cret",
        "both": {"deep": ["s3cret"]},
        "id": uuid.UUID(int=1),
        "price": Decimal("9.90"),
        "when": dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC),
        "day": dt.date(2026, 3, 1),
        "wait": dt.timedelta(hours=1, minutes=30),
        "big": 10**20,
        "odd": {"$uuid": [Decimal("1")]},
        "plain": [None, True, 1, "x"],
    }
    shown = payload.mask(stored(data, sensitive=("token", "both")))
    assert shown == {
        "token": MASK,
        "both": MASK,
        "id": "00000000-0000-0000-0000-000000000001",
        "price": "9.90",
        "when": "2026-03-01T12:00:00+00:00",
        "day": "2026-03-01",
        "wait": "1:30:00",
        "big": "100000000000000000000",
        "odd": {"$uuid": ["1"]},
        "plain": [None, True, 1, "x"],
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"$encrypted": "broken"}, MASK),
        ([{"$encrypted": None}], [MASK]),
        ({"a": {"$dict": {"$encrypted": "not a token, a dict of the caller's"}}}, None),
        ({"$dict": [1]}, [1]),
        ({"$unknown": 5}, 5),
        ({"$timedelta": "broken"}, "broken"),
        ({"$timedelta": 5}, 5),
        (nested(600), None),
        ("plain", "plain"),
        (None, None),
        (7, 7),
    ],
    ids=lambda value: type(value).__name__,
)
def test_masking_never_raises(value: Any, shown: Any) -> None:
    masked = payload.mask_value(value)
    assert shown is None or masked == shown
    assert payload.mask({"x": value}) == {"x": masked}


def test_an_escaped_dict_that_looks_encrypted_is_no_secret() -> None:
    data = {"a": {"$encrypted": "mine"}, "b": [{"$encrypted": {"c": 1}}]}
    encoded = stored(data)
    assert payload.decode(encoded) == data
    assert payload.mask(encoded) == data
    assert payload.secrets_in(encoded) == []
    assert payload.rotate(encoded) == (encoded, False)


def test_the_secrets_of_stored_data() -> None:
    identity = uuid.UUID("12345678-1234-5678-1234-567812345678")
    data = {
        "open": "visible",
        "token": "s3cret",
        "pin": 4711,
        "rate": 0.25,
        "many": ["one", {"name": "two", "$x": {"deep": "three"}}, None, True, "one", ""],
        "price": Decimal("9.90"),
        "id": identity,
        "odd": {"$uuid": "four"},
    }
    found = payload.secrets_in(stored(data, sensitive=set(data) - {"open"}))
    for text in (
        "s3cret",
        "4711",
        "0.25",
        "one",
        "two",
        "three",
        "9.90",
        str(identity),
        identity.hex,
        "four",
    ):
        assert text in found
    assert not {"visible", "name", "deep", "None", "True"} & set(found)
    assert len(found) == len(set(found))


def test_secrets_inside_an_escaped_dict_are_found_and_rotated(settings: Any) -> None:
    token = encryption.encrypt('"s3cret"')
    encoded = {"a": {"$dict": {"$b": {"$encrypted": token}}}}
    assert payload.secrets_in(encoded) == ["s3cret"]
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [NEW, OLD]}
    rotated, changed = payload.rotate(encoded)
    assert changed
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [NEW]}
    assert payload.decode(rotated) == {"a": {"$b": "s3cret"}}


def test_rotation_moves_every_sensitive_value_to_the_first_key(settings: Any) -> None:
    data = {"a": "s3cret", "b": {"c": [Decimal(1)]}, "open": [uuid.UUID(int=1), {"$x": 1}]}
    old = stored(data, sensitive=("a", "b"))
    assert payload.rotate(old) == (old, False)
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [NEW, OLD]}
    assert payload.decode(old) == data
    rotated, changed = payload.rotate(old)
    assert changed
    assert rotated["open"] == old["open"]
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [NEW]}
    assert payload.decode(rotated) == data
    assert payload.rotate(rotated) == (rotated, False)


# --- redaction ------------------------------------------------------------------------------------

HARD = "p'ss\"w\\rd\n/ü&<=+ 😀"


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        ("token s3cret used", ["s3cret"], f"token {MASK} used"),
        ("s3crets3cret", ["s3cret"], MASK * 2),
        ("xs3crety", ["s3cret"], f"x{MASK}y"),
        ("nothing here", ["s3cret"], "nothing here"),
        ("", ["s3cret"], ""),
        ("text", [], "text"),
        ("text", ["", " ", "\n"], "text"),
        ("abcdef abcd", ["abcd", "abcdef"], f"{MASK} {MASK}"),
        ("a.b*c and axbxc", ["a.b*c"], f"{MASK} and axbxc"),
        ("line 1, in f: pin=1", ["1"], f"line {MASK}, in f: pin={MASK}"),
        ("line 12, file a1.py: 'abc' abcd", ["1", "abc"], f"line 12, file a1.py: '{MASK}' abcd"),
        ("a+b?", ["a+b"], f"{MASK}?"),
        ("é1 1é 1", ["1"], f"é1 1é {MASK}"),
    ],
)
def test_redaction(text: str, secrets: list[str], expected: str) -> None:
    assert payload.redact(text, secrets) == expected


@pytest.mark.parametrize(
    "written",
    [
        HARD,
        repr(HARD),
        ascii(HARD),
        repr({"token": HARD}),
        repr(HARD.encode()),
        json.dumps({"token": HARD}),
        json.dumps({"token": HARD}, ensure_ascii=False),
        f"token={urllib.parse.quote(HARD)}",
        urllib.parse.urlencode({"token": HARD}),
        urllib.parse.quote(HARD, safe=""),
        html.escape(HARD),
    ],
)
def test_redaction_finds_a_secret_however_it_is_escaped(written: str) -> None:
    redacted = payload.redact(f"before {written} after", [HARD])
    assert MASK in redacted
    assert "ss" not in redacted.replace("before", "").replace("after", "")
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


def test_redaction_finds_the_lines_of_a_long_secret() -> None:
    secret = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n  AgEAAoIBAQC7VJTUt9  \nok\n-----END KEY-----"
    told = "ValueError: bad line 2\n    | MIIEvQIBADANBgkq\n    | AgEAAoIBAQC7VJTUt9\n    | ok\n"
    assert (
        payload.redact(told, [secret])
        == f"ValueError: bad line 2\n    | {MASK}\n    | {MASK}\n    | ok\n"
    )


def test_secrets_are_redacted_from_a_traceback() -> None:
    data = {"token": "s3cret", "pin": 4711, "id": uuid.UUID(int=5), "price": Decimal("9.90")}
    secrets = payload.secrets_in(stored(data, sensitive=tuple(data)))
    redacted = payload.redact(f"File x.py, line 7\n  call({data!r}) {data['id'].hex}\n", secrets)
    for value in ("s3cret", "4711", "9.90", str(data["id"]), data["id"].hex):
        assert value not in redacted
    assert "line 7" in redacted


def test_json_is_compact_and_strict() -> None:
    assert payload.to_json({"a": [1, "é"]}) == '{"a":[1,"é"]}'
    with pytest.raises(ValueError, match="JSON"):
        payload.to_json(math.nan)
    with pytest.raises(TypeError):
        payload.to_json(object())
