"""Encryption of sensitive values: order of keys, rotation, and errors that reveal nothing."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from cryptography.fernet import Fernet

from wellos_jobs.errors import EncryptionError
from wellos_jobs.payload import encryption

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))


@pytest.mark.parametrize(
    "text", ["", "s3cret", '{"a": [1, 2]}', "Zürich 😀", "a\x00b", "x" * 100_000]
)
def test_encrypt_and_decrypt(text: str) -> None:
    token = encryption.encrypt(text, (NEW,))
    assert token.isascii()
    assert not text or text not in token
    assert encryption.decrypt(token, (NEW,)) == text


def test_two_tokens_of_one_text_differ() -> None:
    assert encryption.encrypt("s3cret", (NEW,)) != encryption.encrypt("s3cret", (NEW,))


def test_the_first_key_encrypts() -> None:
    token = encryption.encrypt("s3cret", (NEW, OLD))
    assert encryption.decrypt(token, (NEW,)) == "s3cret"
    with pytest.raises(EncryptionError):
        encryption.decrypt(token, (OLD,))


def test_every_key_decrypts() -> None:
    token = encryption.encrypt("s3cret", (OLD,))
    assert encryption.decrypt(token, (NEW, OTHER, OLD)) == "s3cret"


def test_keys_come_from_the_settings(settings: Any) -> None:
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [OLD]}
    token = encryption.encrypt("s3cret")
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [NEW, OLD]}
    assert encryption.decrypt(token) == "s3cret"
    assert encryption.needs_rotation(token)
    rotated = encryption.rotate(token)
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [NEW]}
    assert encryption.decrypt(rotated) == "s3cret"
    with pytest.raises(EncryptionError):
        encryption.decrypt(token)


def test_keys_as_bytes_in_the_settings(settings: Any) -> None:
    settings.WELLOS_JOBS = {"ENCRYPTION_KEYS": [NEW.encode()]}
    assert encryption.decrypt(encryption.encrypt("s3cret")) == "s3cret"


@pytest.mark.parametrize(
    ("made_with", "keys", "needed"),
    [
        ((NEW,), (NEW,), False),
        ((NEW,), (NEW, OLD), False),
        ((OLD,), (NEW, OLD), True),
        ((OLD,), (OLD,), False),
    ],
)
def test_rotation_is_needed_unless_the_first_key_made_the_token(
    made_with: tuple[str, ...], keys: tuple[str, ...], needed: bool
) -> None:
    token = encryption.encrypt("s3cret", made_with)
    assert encryption.needs_rotation(token, keys) is needed
    rotated = encryption.rotate(token, keys)
    assert (rotated == token) is not needed
    assert not encryption.needs_rotation(rotated, keys)
    assert encryption.decrypt(rotated, keys[:1]) == "s3cret"


@pytest.mark.parametrize("do", [encryption.decrypt, encryption.needs_rotation, encryption.rotate])
@pytest.mark.parametrize(
    "token",
    [
        encryption.encrypt("s3cret", (OTHER,)),
        encryption.encrypt("s3cret", (NEW,))[:-6] + "AAAA==",
        "",
        "s3cret",
        "s3crét",
        None,
        7,
        ["s3cret"],
    ],
    ids=lambda token: type(token).__name__,
)
def test_a_token_of_an_unknown_key_is_an_error_without_token_or_text(do: Any, token: Any) -> None:
    with pytest.raises(EncryptionError, match="cannot be decrypted") as caught:
        do(token, (NEW, OLD))
    told = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in str(caught.value)
    assert NEW not in told
    assert OLD not in told
    assert caught.value.__suppress_context__


def test_without_keys_the_error_says_how_to_make_one(settings: Any) -> None:
    settings.WELLOS_JOBS = {}
    with pytest.raises(EncryptionError, match=r"ENCRYPTION_KEYS.*generate_key"):
        encryption.encrypt("s3cret")
    with pytest.raises(EncryptionError, match="ENCRYPTION_KEYS"):
        encryption.decrypt("gAAAA")
    with pytest.raises(EncryptionError, match="ENCRYPTION_KEYS"):
        encryption.needs_rotation("gAAAA")


@pytest.mark.parametrize(
    "bad",
    ["not-a-key", "", "clé", NEW[:-4], NEW[1:]],
    ids=["words", "empty", "accent", "short", "beheaded"],
)
def test_a_malformed_key_is_named_by_its_position_only(bad: str) -> None:
    with pytest.raises(
        EncryptionError, match=r'\["ENCRYPTION_KEYS"\]\[1\] is not a Fernet key'
    ) as caught:
        encryption.encrypt("s3cret", (NEW, bad))
    assert not bad or bad not in str(caught.value)
    assert NEW not in str(caught.value)


def test_invalid_unicode_is_refused_without_quoting_it() -> None:
    with pytest.raises(EncryptionError, match="surrogate") as caught:
        encryption.encrypt("s3cret\ud800", (NEW,))
    assert (
        "s3cret"
        not in "".join(traceback.format_exception(caught.value, chain=True)).split(
            "EncryptionError"
        )[-1]
    )
    assert caught.value.__suppress_context__
